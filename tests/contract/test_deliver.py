"""The deliver function: batches of real queues into a real log, and what becomes of messages that cannot go there."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from functions.deliver.backoff import MOST_S
from infra.local.queues import DEAD_LETTERS
from shared.delivery import Death
from tests.support.deliver_rig import DeliverRig, delivery, message_ids
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.intake import push_of

DAY_S = 86_400
ANN, BEN, CAT = (f"gmail:{name}@example.com" for name in ("ann", "ben", "cat"))
#: The retention of SQS is 14 days; a day before it nothing may be left there that is of use.
DEADLINE_S = 13 * DAY_S
READ_ONLY = "READONLY You can't write against a read only replica."


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


def failing(rig: DeliverRig, topic: str, text: str = READ_ONLY) -> Callable[[list[Any]], list[Any]]:
    """Rewrite the appends of one topic into a command that fails with these words."""
    key = rig.basis.keys.log(topic)

    def rewrite(command: list[Any]) -> list[Any]:
        return ["EVAL", f"return redis.error_reply([[{text}]])", "0"] if key in command else command

    return rewrite


# -- good messages


async def test_a_batch_goes_into_the_log_in_the_order_of_each_topic(rig: DeliverRig) -> None:
    """Nothing is reported as failed, and nothing is left in the queue."""
    for number, topic in enumerate((ANN, BEN, ANN, CAT, ANN, BEN)):
        rig.put(delivery(number, topic))
    ran = await rig.run()
    assert len(ran.received) == 6
    assert ran.failed == []
    assert [await rig.numbers(topic) for topic in (ANN, BEN, CAT)] == [["0", "2", "4"], ["1", "5"], ["3"]]
    assert rig.held() == rig.held(DEAD_LETTERS) == 0


async def test_a_message_that_is_delivered_twice_makes_one_event(rig: DeliverRig) -> None:
    """SQS may give a message again although it was handled: when deleting it has failed, for example."""
    rig.put(delivery(1))
    messages = rig.receive()
    for _ in range(2):
        assert (await rig.hand_over(messages)).failed == []
    assert await rig.numbers() == ["1"]
    assert rig.basis.counts["delivered_before"] == 1


# -- poison


@pytest.mark.parametrize("position", [0, 4, 9])
@pytest.mark.parametrize("together", [True, False], ids=["one group", "a group each"])
async def test_one_poison_message_of_ten_delivers_the_other_nine(
    rig: DeliverRig, position: int, *, together: bool
) -> None:
    """It ends among the dead letters at once, and holds up none of its group."""
    topics = [ANN if together else f"gmail:box{n}@example.com" for n in range(10)]
    for number, topic in enumerate(topics):
        if number == position:
            rig.put("poison", group=delivery(0, topic).group)
        else:
            rig.put(delivery(number, topic))
    ran = await rig.run()
    assert len(ran.received) == 10
    assert ran.failed == []
    kept = [number for topic in sorted(set(topics)) for number in await rig.numbers(topic)]
    assert kept == [str(number) for number in range(10) if number != position]
    (letter,) = rig.letters()
    assert (letter.death, letter.message, letter.attempts) == (Death.POISON, "poison", 1)
    assert letter.reason == "is not JSON"
    assert rig.held() == 0


def later() -> str:
    """Write a delivery as a version after the next might."""
    return json.dumps({**json.loads(delivery(1).to_json()), "format": "3"})


def without(name: str) -> str:
    told = json.loads(delivery(1).to_json())
    del told["event"][name]
    return json.dumps(told)


#: A good push without a time of its own: the moment when it came stands in for that.
TIMELESS = base64.b64encode(push_of(1)).decode()


def push(**members: Any) -> str:
    """Write a delivery of a push that could not be read before."""
    named = {"size": 3, "sha256": "x", "head": "YWJj", "pubsub": {}, **members}
    told = {"format": "1", "push": named, "accepted_at": "2026-11-23T14:00:00Z", "returns": 0, "nonce": ""}
    return json.dumps(told)


FOREIGN = {
    "a space": " ",
    "no JSON": "{",
    "a list": "[]",
    "an object of somebody else": '{"Type":"Notification","Message":"x"}',
    "no content": '{"format":"1","accepted_at":"","returns":0,"nonce":""}',
    "a later format": later(),
    "a format that is a number": later().replace('"3"', "1"),
    "no topic": without("topic"),
    "no envelope": without("envelope"),
    "no subscription": without("subscription"),
    "no message id": without("message_id"),
    "an envelope that is none": json.dumps({**json.loads(delivery(1).to_json()), "event": {"envelope": {}}}),
    "returns that are a word": delivery(1).to_json().replace('"returns":0', '"returns":"0"'),
    "returns below zero": delivery(1).to_json().replace('"returns":0', '"returns":-1'),
    "no nonce": delivery(1).to_json().replace('"nonce":""', '"nonce":null'),
    "deep": '{"format":' + "[" * 100 + "]" * 100 + "}",
    "too deep for any parser": "[" * 100_000,
    "a number too large": '{"format":' + "9" * 5000 + "}",
    "a push whose head is no base64": push(head="!"),
    "a push of which only the head was kept": push(size=300_000),
    "a push that still cannot be read": push(),
    "a push of no size": push(size=None),
    "a push with headers of another type": push(pubsub={"x": 1}),
    "a push that came at no time": push(size=len(push_of(1)), head=TIMELESS).replace(
        "2026-11-23T14:00:00Z", "yesterday"
    ),
    "a push that came in no time zone": push(size=len(push_of(1)), head=TIMELESS).replace("14:00:00Z", "14:00:00"),
    "a push that came before all time": push(size=len(push_of(1)), head=TIMELESS).replace(
        "2026-11-23T14:00:00Z", "0001-01-01T00:00:00+23:59"
    ),
    "half a surrogate pair": '{"format":"1","event":"\\ud800"}',
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
async def test_what_is_not_ours_is_poison(rig: DeliverRig, body: str) -> None:
    """Foreign, broken or of a later version: it goes to the dead letters as it is, at the first try."""
    rig.put(body)
    rig.put(delivery(1))
    assert (await rig.run()).failed == []
    (letter,) = rig.letters()
    assert (letter.death, letter.message, letter.attempts) == (Death.POISON, body, 1)
    assert letter.reason
    assert rig.slept == []
    assert await rig.numbers() == ["1"]


async def test_a_dead_letter_says_since_when_and_how_often(rig: DeliverRig) -> None:
    """First seen: when it came into the queue. Attempts: how often the queue has given it out."""
    rig.clock.now_s = 1_795_442_400.0
    rig.put("poison")
    for _ in range(3):
        rig.receive(hidden_s=0)
    rig.clock.now_s += 90
    await rig.run()
    (letter,) = rig.letters()
    assert (letter.first_seen, letter.died_at) == ("2026-11-23T14:00:00.000Z", "2026-11-23T14:01:30.000Z")
    assert letter.attempts == 4


async def test_while_the_dead_letters_are_away_what_belongs_there_stays_in_the_queue(rig: DeliverRig) -> None:
    """And it goes there once they are back; the others are not held up."""
    rig.client.delete_queue(QueueUrl=rig.server.queue_url(DEAD_LETTERS))
    rig.put("poison")
    rig.put(delivery(1))
    ran = await rig.run()
    assert ran.failed == ["poison"]
    assert (rig.held(), await rig.numbers()) == (1, ["1"])
    rig.clock.now_s += 61  # a name can be used again after a minute
    rig.create(DEAD_LETTERS)
    assert (await rig.run()).failed == []
    (letter,) = rig.letters()
    assert (letter.death, letter.attempts) == (Death.POISON, 2)
    assert rig.held() == 0


# -- a log that is away


async def test_none_overtakes_one_of_its_group_that_has_failed_for_now(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """The first of a topic fails: those behind it are held back untried; the other topics flow."""
    rig.start()
    for number, topic in enumerate((ANN, BEN, ANN, CAT, ANN, BEN)):
        rig.put(delivery(number, topic))
    faulty.rewrite = failing(rig, ANN)
    ran = await rig.run()
    assert message_ids(ran.failed) == ["0", "2", "4"]
    assert [await rig.numbers(topic) for topic in (ANN, BEN, CAT)] == [[], ["1", "5"], ["3"]]
    # Two tries of the first, and nothing of those behind it.
    assert faulty.asked["append"] == 2 + 3
    faulty.rewrite = None
    rig.put(delivery(6, ANN))
    assert (await rig.run()).received == []
    rig.clock.now_s += MOST_S
    assert (await rig.run()).failed == []
    assert await rig.numbers(ANN) == ["0", "2", "4", "6"]
    assert rig.held(DEAD_LETTERS) == 0


async def test_one_that_fails_in_the_middle_of_its_group_holds_back_only_those_behind_it(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """What was delivered before it is done."""
    for number in range(4):
        rig.put(delivery(number))
    asked = itertools.count(1)
    faulty.refuse = lambda name: Answer.error(READ_ONLY) if name == "append" and next(asked) in (3, 4) else None
    assert message_ids((await rig.run()).failed) == ["2", "3"]
    assert await rig.numbers() == ["0", "1"]
    rig.clock.now_s += MOST_S
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["0", "1", "2", "3"]


async def test_what_has_failed_for_now_comes_back_after_1_2_4_seconds_and_15_at_most(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """With jitter, so that topics that failed together do not come back together. Asked of the queue itself."""
    faulty.refuse = lambda name: (
        Answer.error("LOADING Redis is loading the dataset in memory") if name == "append" else None
    )
    rig.put(delivery(1))
    waited_s = []
    for _ in range(8):
        assert len((await rig.run()).failed) == 1
        seconds = 0
        while not (found := rig.receive(hidden_s=0)):
            rig.clock.now_s += 1
            seconds += 1
        waited_s.append(seconds)
        assert len(found) == 1
    # That look was a receive as well, so that the function sees every other one.
    longest_s = [min(MOST_S, 2 ** (2 * tried)) for tried in range(8)]
    assert all(longest / 2 - 1 <= waited <= longest for waited, longest in zip(waited_s, longest_s, strict=True))
    assert max(waited_s) > MOST_S / 2
    assert rig.held(DEAD_LETTERS) == 0


async def test_topics_that_failed_together_do_not_come_back_together(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """Ten of them, received for the sixth time: spread over half of the longest pause."""
    for number in range(10):
        rig.put(delivery(number, f"gmail:box{number}@example.com"))
    for _ in range(5):
        rig.receive(hidden_s=0)
    faulty.refuse = lambda name: Answer.error(READ_ONLY) if name == "append" else None
    assert len((await rig.run()).failed) == 10
    back = []
    for second in range(1, MOST_S + 1):
        rig.clock.now_s += 1
        back += [second] * len(rig.receive())
    assert len(back) == 10
    assert min(back) >= MOST_S // 2
    assert len(set(back)) > 2


async def test_messages_stay_for_thirteen_days_while_the_log_is_away_and_are_kept_as_temporary_then(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """SQS would drop them after fourteen, without a word."""
    faulty.refuse = lambda name: (
        Answer.error("ERR max requests limit exceeded. Limit: 10000") if name == "append" else None
    )
    rig.put(delivery(1))
    rig.put(delivery(2))
    rig.clock.now_s += DEADLINE_S - 75
    for _ in range(5):
        assert len((await rig.run()).failed) == 2
        rig.clock.now_s += 15
    assert rig.held(DEAD_LETTERS) == 0
    assert (await rig.run()).failed == []
    letters = rig.letters()
    assert [message_ids([letter.message]) for letter in letters] == [["1"], ["2"]]
    assert {letter.death for letter in letters} == {Death.TEMPORARY}
    # The breaker is open by now, and it is the log's own words that somebody needs.
    assert all(letter.reason.endswith("ERR max requests limit exceeded. Limit: 10000") for letter in letters)
    assert letters[0].attempts == 6
    assert rig.held() == 0
    assert rig.slept == []


async def test_while_the_breaker_is_open_the_log_is_not_asked(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """After five failures in a row a batch costs nothing, and comes back."""
    faulty.refuse = lambda name: Answer.error(READ_ONLY) if name == "append" else None
    for number in range(10):
        rig.put(delivery(number, f"gmail:box{number}@example.com"))
    assert len((await rig.run()).failed) == 10
    asked = faulty.asked["append"]
    rig.clock.now_s += MOST_S
    assert len((await rig.run()).failed) == 10
    assert faulty.asked["append"] == asked
    faulty.refuse = lambda _name: None
    rig.basis.log.hear_of_life()
    rig.clock.now_s += MOST_S
    ran = await rig.run()
    # One of them has tried the log, while the others were kept away from it.
    assert len(ran.failed) < 10
    rig.clock.now_s += MOST_S
    assert (await rig.run()).failed == []
    assert rig.held() == 0


# -- a log that cannot take it


async def test_what_fails_for_no_known_reason_is_tried_three_times_and_then_waits_for_somebody(
    rig: DeliverRig, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a key of a wrong type. The pauses between the tries double; other mailboxes flow meanwhile."""
    rig.start()
    await rig.redis("SET", rig.basis.keys.log(ANN), "not a log")
    rig.put(delivery(1, ANN))
    rig.put(delivery(2, BEN))
    rig.put(delivery(3, ANN))
    assert (await rig.run()).failed == []
    assert await rig.numbers(BEN) == ["2"]
    letters = rig.letters()
    assert sorted(message_ids([letter.message for letter in letters])) == ["1", "3"]
    assert {(letter.death, letter.attempts) for letter in letters} == {(Death.UNKNOWN, 3)}
    assert all(letter.reason.startswith("LogDefectError: WRONGTYPE") for letter in letters)
    assert rig.slept == [0.5, 1.0, 0.5, 1.0]
    assert rig.held() == 0
    assert [line.message for line in caplog.records if line.levelname == "ERROR"].count("dead letter") == 2


async def test_a_defect_that_passes_within_three_tries_is_none(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """Nothing is left behind of it."""
    asked = itertools.count(1)
    faulty.refuse = lambda name: (
        Answer.error("WRONGTYPE Operation against a key holding the wrong kind of value")
        if name == "append" and next(asked) < 3
        else None
    )
    rig.put(delivery(1))
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1"]
    assert rig.slept == [0.5, 1.0]
    assert rig.held(DEAD_LETTERS) == 0


async def test_an_event_that_is_neither_a_batch_nor_a_schedule_is_refused(rig: DeliverRig) -> None:
    """Rather than being taken for an empty batch, which would delete what it holds."""
    deliver = rig.start()
    for told in ({}, {"Records": None}, {"detail-type": "Something"}):
        with pytest.raises(ValueError, match="neither"):
            deliver(told, None)
    assert rig.basis.counts.snapshot() == {}
