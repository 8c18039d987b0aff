"""A webhook that is killed at any point of a push: what is acknowledged is kept, and what is sent again is one event.

The process dies by SIGKILL at the first suspension of the push, at the second, and so on: between any two of them
nothing else can happen than what has happened by then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from infra.local.queues import CONFIRMATION, DEAD_LETTERS, DELIVERY
from shared.delivery import Delivery, Event, RawPush
from tests.support.deliver_rig import DeliverRig
from tests.support.dying_webhook import DyingWebhook
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.intake import push_of

logger = logging.getLogger(__name__)

#: More than any push has: the test would not end otherwise.
MOST = 100
#: How long some waits take is chance: the end is reached when so many pushes in a row come through.
SURVIVED = 3
CONFIRMED = {"TIDEMARK_CONFIRM_S": "60"}


@dataclass(frozen=True, slots=True)
class Variant:
    """What the push meets, and what it is answered when nobody dies."""

    word: str
    log: str = "well"
    settings: Mapping[str, str] = field(default_factory=dict)

    def break_log(self, gateway: FaultyGateway) -> None:
        """Break the log as this variant has it, for the next push."""
        # What was left of the push before this one does not count.
        gateway._lost_answers.clear()
        if self.log == "refuses":
            gateway.refuse = lambda name: Answer.error("READONLY") if name == "append" else None
        elif self.log == "executes and does not answer":
            gateway.lose_answers("append", 2)


VARIANTS = {
    "log": Variant("published"),
    "queue": Variant("queued", "refuses"),
    "both": Variant("queued", "executes and does not answer"),
    "confirmed": Variant("published", settings=CONFIRMED),
    "confirmed queue": Variant("queued", "refuses", CONFIRMED),
}


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
async def test_a_push_whose_process_is_killed_at_any_await_is_lost_by_nobody_and_doubled_by_nobody(
    rig: DeliverRig, faulty: FaultyGateway, variant: Variant
) -> None:
    """A 2xx is given only for what is kept; Pub/Sub's redelivery, and all that was queued, make one event of it."""
    answered_and_killed = survived = 0
    async with DyingWebhook.running(rig.settings(**variant.settings)) as dying:
        for at in range(MOST):
            body = push_of(at)
            variant.break_log(faulty)
            async with dying.started(at=at) as webhook:
                answer = await webhook.push(body)
            if answer is not None:
                assert answer[0] == 200
                answered_and_killed += webhook.died
                assert str(at) in await _kept(rig)
            async with dying.started() as again:
                variant.break_log(faulty)
                answer_again = await again.push(body)
            assert answer_again is not None
            assert answer_again[0] == 200
            faulty.refuse = lambda _name: None
            await _drain(rig)
            assert await rig.numbers() == [str(number) for number in range(at + 1)]
            survived = 0 if webhook.died else survived + 1
            if survived == SURVIVED:
                break
    logger.info(
        "%s: killed at %d suspensions, %d of them after its answer", variant, at + 1 - survived, answered_and_killed
    )
    assert answer is not None
    assert answer[1]["status"] == variant.word
    # The kills reach from before anything is done, which is before the first one, to after the answer.
    assert at > 3
    assert rig.held(DEAD_LETTERS) == 0


async def test_a_push_that_can_never_be_read_is_parked_although_its_process_is_killed(rig: DeliverRig) -> None:
    """Sent again it may be parked twice, which harms nobody; acknowledged and gone it never is."""
    async with DyingWebhook.running(rig.settings()) as dying:
        for at in range(MOST):
            body = f"broken {at}".encode()
            async with dying.started(at=at) as webhook:
                answer = await webhook.push(body)
            pushes = [Delivery.parse(letter.message).content for letter in rig.letters()]
            assert answer is None or body in [push.head for push in pushes if isinstance(push, RawPush)]
            rig.clock.now_s += 60
            rig.client.purge_queue(QueueUrl=rig.server.queue_url(DEAD_LETTERS))
            if not webhook.died:
                break
    assert answer is not None
    assert answer[1]["status"] == "rejected"
    assert at > 3


async def _kept(rig: DeliverRig) -> set[str]:
    """Return which pushes are in the log or in the delivery queue, which is left as it is."""
    waiting = [Delivery.parse(message["Body"]).content for message in rig.receive(hidden_s=0)]
    return {*(await rig.numbers()), *(event.message_id for event in waiting if isinstance(event, Event))}


async def _drain(rig: DeliverRig) -> None:
    """Deliver all that waits, confirmations included."""
    for queue in (DELIVERY, CONFIRMATION):
        while rig.held(queue):
            rig.clock.now_s += 60
            await rig.run(queue=queue)
