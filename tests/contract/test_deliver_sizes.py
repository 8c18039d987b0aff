"""The largest messages that there can be, from a push to the log and to the dead letters."""

from __future__ import annotations

import hashlib

import pytest

from infra.local.queues import DEAD_LETTERS
from shared.delivery import DeadLetter, Death, Delivery, RawPush
from shared.push import MAX_PUSH_BYTES
from shared.sqs import MAX_MESSAGE_BYTES
from tests.support.deliver_rig import ACCEPTED_AT, DeliverRig, delivery

#: What SQS takes is bytes: of these each is as much text as fits, and longer when it is quoted in JSON.
LARGEST = {
    "plain": "x" * MAX_MESSAGE_BYTES,
    "quotes": '"' * MAX_MESSAGE_BYTES,
    "backslashes": "\\" * MAX_MESSAGE_BYTES,
    "accents": "é" * (MAX_MESSAGE_BYTES // 2),
    "emoji": "\N{GRINNING FACE}" * (MAX_MESSAGE_BYTES // 4),
}


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


@pytest.mark.parametrize("body", LARGEST.values(), ids=LARGEST)
async def test_poison_of_the_largest_size_leaves_its_size_hash_and_head(rig: DeliverRig, body: str) -> None:
    """Quoted in a dead letter it would be too large for any queue; without a letter it would stay for ever."""
    rig.put(body)
    rig.put(delivery(1))
    # One at a time: SQS gives out 1 MiB in one answer at most.
    while (ran := await rig.run()).received:
        assert ran.failed == []
    (letter,) = rig.letters()
    assert letter.death is Death.POISON
    assert hashlib.sha256(body.encode()).hexdigest() in letter.reason
    assert f"of {len(body)} characters" in letter.reason
    assert letter.message
    assert body.startswith(letter.message)
    assert await rig.numbers() == ["1"]


@pytest.mark.parametrize("over", [0, 1])
async def test_poison_is_kept_whole_up_to_the_last_byte_that_fits(rig: DeliverRig, over: int) -> None:
    """The letter around it counts as well."""
    rig.put("poison")
    await rig.run()
    (small,) = rig.letters()
    room = MAX_MESSAGE_BYTES - len(small.to_json().encode()) + len("poison")
    rig.clock.now_s += 1
    body = "x" * (room + over)
    rig.put(body)
    await rig.run()
    found = [DeadLetter.parse(message["Body"]) for message in rig.receive(queue=DEAD_LETTERS)]
    (large,) = [letter for letter in found if letter.message != "poison"]
    assert (large.message == body) == (over == 0)


async def test_an_event_of_the_largest_size_is_delivered(rig: DeliverRig) -> None:
    """As large as a message of the queue can be: far larger than any push makes one."""
    topic = "gmail:" + "a" * 314
    empty = delivery("m" * 256, topic, size=1)
    big = delivery("m" * 256, topic, size=1 + MAX_MESSAGE_BYTES - len(empty.to_json()))
    assert len(big.to_json()) == MAX_MESSAGE_BYTES
    rig.put(big)
    assert (await rig.run()).failed == []
    assert await rig.numbers(topic) == ["m" * 256]
    assert rig.held() == rig.held(DEAD_LETTERS) == 0


@pytest.mark.parametrize("filler", [b"\0", b"x", b'"', b"\xff"])
async def test_a_push_of_256_kib_that_was_put_back_and_is_unreadable_still_is_kept_whole(
    rig: DeliverRig, filler: bytes
) -> None:
    """Redriven in vain it comes back as it was, and can be redriven again."""
    body = filler * MAX_PUSH_BYTES
    push = RawPush(len(body), hashlib.sha256(body).hexdigest(), body, {})
    rig.put(Delivery(push, ACCEPTED_AT))
    assert (await rig.run()).failed == []
    (letter,) = rig.letters()
    assert letter.death is Death.POISON
    assert Delivery.parse(letter.message).content == push
