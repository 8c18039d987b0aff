"""Confirmation: every push is appended a second time, which restores what a failover of Redis has forgotten."""

from __future__ import annotations

import pytest

from functions.deliver.backoff import MOST_S
from functions.deliver.courier import TRIES
from infra.local.queues import CONFIRMATION, DEAD_LETTERS, DELIVERY
from shared.delivery import Death
from tests.support.alarm_lines import rung
from tests.support.deliver_rig import DeliverRig, delivery
from tests.support.faulty_gateway import Answer, FaultyGateway

ANN = "gmail:ann@example.com"
DEDUPE_S = 3600
CONFIRM_S = 60


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    deliveries.start(TIDEMARK_CONFIRM_S=str(CONFIRM_S), TIDEMARK_DEDUPE_S=str(DEDUPE_S), TIDEMARK_RETENTION_S="3600")
    return deliveries


async def forget(rig: DeliverRig, number: int) -> None:
    """Take an event out of Redis, as a failover to a replica that never had it does."""
    keys = rig.basis.keys
    for position, flat in await rig.redis("XRANGE", keys.log(ANN), "-", "+"):
        if f'"id":"{number}"' in flat[-1]:
            await rig.redis("XDEL", keys.log(ANN), position)
    await rig.redis("DEL", keys.seen("projects/p/subscriptions/s", str(number)))


async def test_what_goes_from_the_queue_into_the_log_gets_a_copy_that_comes_after_the_delay(rig: DeliverRig) -> None:
    """The copy that the webhook has sent was meant for an append that did not happen."""
    rig.put(delivery(1))
    assert (await rig.run()).failed == []
    assert rig.held(CONFIRMATION) == 1
    rig.clock.now_s += CONFIRM_S - 1
    assert rig.receive(queue=CONFIRMATION) == []
    rig.clock.now_s += 1
    assert (await rig.run(queue=CONFIRMATION)).received == [delivery(1).to_json()]
    assert rig.held(CONFIRMATION) == 0


async def test_a_copy_changes_nothing_unless_its_event_was_forgotten(
    rig: DeliverRig, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of three are there: only the third is appended, at a new position with the same envelope."""
    for number in range(3):
        rig.put(delivery(number))
    assert (await rig.run()).failed == []
    before = await rig.redis("XRANGE", rig.basis.keys.log(ANN), "-", "+")
    await forget(rig, 1)
    rig.clock.now_s += CONFIRM_S
    assert rung(caplog.records) == set()
    ran = await rig.run(queue=CONFIRMATION)
    assert (len(ran.received), ran.failed) == (3, [])
    assert rung(caplog.records) == {"Forgotten"}
    after = await rig.redis("XRANGE", rig.basis.keys.log(ANN), "-", "+")
    assert after[:2] == [before[0], before[2]]
    ((position, fields),) = after[2:]
    assert position > before[2][0]
    assert fields[-1] == before[1][1][-1]
    assert (rig.basis.counts["confirmed"], rig.basis.counts["restored"]) == (3, 1)
    # A copy has no copy of its own: there is an end to it.
    assert rig.held(CONFIRMATION) == 0


async def test_a_copy_that_comes_after_the_dedupe_time_is_dropped(rig: DeliverRig) -> None:
    """The log could not tell any more whether it has the event, and would hold it twice."""
    rig.put(delivery(1), queue=CONFIRMATION)
    rig.put(delivery(2), queue=CONFIRMATION)
    rig.clock.now_s += DEDUPE_S - 61
    (first,) = rig.receive(queue=CONFIRMATION, most=1)
    assert (await rig.hand_over([first], queue=CONFIRMATION)).failed == []
    rig.clock.now_s += 2
    assert (await rig.run(queue=CONFIRMATION)).failed == []
    assert len(await rig.numbers()) == 1
    assert rig.basis.counts["confirmations_expired"] == 1
    assert rig.held(CONFIRMATION) == rig.held(DEAD_LETTERS) == 0


async def test_while_the_log_is_away_copies_wait_as_pushes_do(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """They are pushed out, and none dies of it."""
    rig.put(delivery(1), queue=CONFIRMATION)
    faulty.refuse = lambda name: Answer.error("READONLY") if name == "append" else None
    for _ in range(3):
        assert len((await rig.run(queue=CONFIRMATION)).failed) == 1
        assert rig.receive(queue=CONFIRMATION) == []
        rig.clock.now_s += 15
    faulty.refuse = lambda _name: None
    assert (await rig.run(queue=CONFIRMATION)).failed == []
    assert await rig.numbers() == ["1"]
    assert rig.held(DEAD_LETTERS) == 0


async def test_without_a_place_for_its_copy_a_push_stays_in_the_queue(rig: DeliverRig) -> None:
    """Otherwise nothing would restore it; it is in the log once all the same."""
    rig.client.delete_queue(QueueUrl=rig.server.queue_url(CONFIRMATION))
    rig.put(delivery(1))
    assert len((await rig.run()).failed) == 1
    assert await rig.numbers() == ["1"]
    rig.clock.now_s += 61
    rig.create(CONFIRMATION)
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1"]
    assert (rig.held(DELIVERY), rig.held(CONFIRMATION)) == (0, 1)


async def test_a_place_for_copies_that_stays_away_does_not_hold_up_a_mailbox_for_ever(
    rig: DeliverRig, caplog: pytest.LogCaptureFixture
) -> None:
    """The push is in the log; after three tries it goes without its copy, which is logged, and the next follows."""
    rig.client.delete_queue(QueueUrl=rig.server.queue_url(CONFIRMATION))
    for number in (1, 2):
        rig.put(delivery(number))
    for _ in range(TRIES - 1):
        assert len((await rig.run()).failed) == 2
        rig.clock.now_s += MOST_S
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1", "2"]
    assert rig.held(DELIVERY) == 0
    said = [(record.levelname, record.message) for record in caplog.records]
    assert said.count(("WARNING", "a message comes back later")) == TRIES - 1
    assert said.count(("ERROR", "a delivered push is not confirmed")) == 2
    assert "Unconfirmed" in rung(caplog.records)


async def test_a_copy_that_cannot_be_read_or_appended_ends_among_the_dead_letters(rig: DeliverRig) -> None:
    """As a push would: nothing that was acknowledged goes away without a word."""
    await rig.redis("SET", rig.basis.keys.log(ANN), "not a log")
    rig.put(delivery(1), queue=CONFIRMATION)
    rig.put("poison", queue=CONFIRMATION)
    assert (await rig.run(queue=CONFIRMATION)).failed == []
    assert sorted(letter.death for letter in rig.letters()) == [Death.POISON, Death.UNKNOWN]
