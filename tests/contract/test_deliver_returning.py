"""The deliver function's schedule: what died because the log was away is put back once it is well again."""

from __future__ import annotations

import secrets

import pytest

from functions.deliver.returning import MAX_RETURNS
from infra.local.queues import DEAD_LETTERS, DELIVERY
from shared.delivery import DeadLetter, Death, Delivery
from shared.errors import QueueUnavailableError
from tests.support.deliver_rig import DeliverRig, delivery, message_ids
from tests.support.faulty_gateway import Answer, FaultyGateway

FOREIGN = "a letter that we have not written"


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


def letter(death: Death, message: Delivery | str) -> str:
    """Write a dead letter."""
    text = message.to_json() if isinstance(message, Delivery) else message
    return DeadLetter(death, "a reason", "2026-11-10T14:00:00.000Z", "2026-11-23T14:00:00.000Z", 9, text).to_json()


async def test_temporary_letters_go_back_and_all_others_stay_where_they_are(rig: DeliverRig) -> None:
    """Those of a person stay in sight: they can be listed at once, unchanged. More letters than a batch holds."""
    kept = [
        letter(Death.UNKNOWN, delivery(100)),
        letter(Death.POISON, "poison"),
        letter(Death.TEMPORARY, "a temporary letter that holds no delivery"),
        FOREIGN,
    ]
    for number in range(12):
        rig.put(letter(Death.TEMPORARY, delivery(number)), queue=DEAD_LETTERS)
        rig.put(kept[number % len(kept)], queue=DEAD_LETTERS)
    assert await rig.scheduled() == 12
    left = [message["Body"] for _ in range(2) for message in rig.receive(queue=DEAD_LETTERS)]
    assert sorted(left) == sorted(3 * kept)
    while (await rig.run()).received:
        pass
    assert sorted(map(int, await rig.numbers())) == list(range(12))
    assert rig.basis.counts["returned"] == 12


async def test_a_letter_goes_back_three_times_at_most(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """Whatever has it die each time, somebody has to look at it; put back on purpose, it starts anew."""
    faulty.refuse = lambda name: Answer.error("READONLY") if name == "append" else None
    rig.put(delivery(1))
    rig.clock.now_s += 13 * 86_400
    for returned in range(MAX_RETURNS + 1):
        # Another environment each time: its breaker has not opened.
        rig.start()
        assert (await rig.run()).failed == []
        (dead,) = rig.letters()
        assert (dead.death, Delivery.parse(dead.message).returns) == (Death.TEMPORARY, returned)
        assert await rig.scheduled() == (1 if returned < MAX_RETURNS else 0)
        rig.clock.now_s += 13 * 86_400
    asked = Delivery.parse(dead.message).put_back(secrets.token_hex(8), unasked=False)
    rig.put(letter(Death.TEMPORARY, asked), queue=DEAD_LETTERS)
    assert await rig.scheduled() == 1


@pytest.mark.parametrize("text", ["READONLY", "ERR max requests limit exceeded", "LOADING", "WRONGPASS"])
async def test_while_the_log_is_away_they_stay(rig: DeliverRig, faulty: FaultyGateway, text: str) -> None:
    """They would only die again, and use up their returns."""
    rig.put(letter(Death.TEMPORARY, delivery(1)), queue=DEAD_LETTERS)
    faulty.refuse = lambda _name: Answer.error(text)
    assert await rig.scheduled() == 0
    assert (rig.held(DEAD_LETTERS), rig.held(DELIVERY)) == (1, 0)
    faulty.refuse = lambda _name: None
    assert await rig.scheduled() == 1
    assert (rig.held(DEAD_LETTERS), rig.held(DELIVERY)) == (0, 1)


async def test_a_letter_stays_when_the_queue_cannot_take_it(rig: DeliverRig) -> None:
    """The run fails, which an alarm sees; the letter can be had again after a while."""
    rig.put(letter(Death.TEMPORARY, delivery(1)), queue=DEAD_LETTERS)
    rig.client.delete_queue(QueueUrl=rig.server.queue_url(DELIVERY))
    with pytest.raises(QueueUnavailableError):
        await rig.scheduled()
    assert rig.held(DEAD_LETTERS) == 1
    rig.clock.now_s += 121
    rig.create(DELIVERY)
    assert await rig.scheduled() == 1
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1"]


async def test_what_is_put_back_within_the_queues_dedupe_time_is_taken_and_the_log_takes_it_once(
    rig: DeliverRig,
) -> None:
    """SQS knows a message for five minutes after it was sent, delivered or not; a new nonce makes it another one."""
    rig.start()
    key = rig.basis.keys.log("gmail:ann@example.com")
    await rig.redis("SET", key, "not a log")
    rig.put(delivery(1))
    await rig.run()
    (dead,) = rig.letters()
    assert dead.death is Death.UNKNOWN
    await rig.redis("DEL", key)

    rig.put(Delivery.parse(dead.message))
    assert rig.held() == 0, "the queue should have known it"
    for _ in range(2):
        rig.put(Delivery.parse(dead.message).put_back(secrets.token_hex(8), unasked=False))
    ran = await rig.run()
    assert message_ids(ran.received) == ["1", "1"]
    assert ran.failed == []
    assert await rig.numbers() == ["1"]
