"""FIFO queues: one suite over our queue server and moto; then order under receivers that compete, for ours."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from typing import Any

import pytest

from tests.support.gateway import eventually
from tests.support.sqs import Queue, Sqs, refused

HIGH_THROUGHPUT = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}


def entry(entry_id: str, body: str, group: str, deduplication_id: str | None = None) -> dict[str, Any]:
    return {
        "Id": entry_id,
        "MessageBody": body,
        "MessageGroupId": group,
        "MessageDeduplicationId": deduplication_id or uuid.uuid4().hex,
    }


def of_group(messages: list[dict[str, Any]], group: str) -> list[str]:
    return [message["Body"] for message in messages if message["Attributes"]["MessageGroupId"] == group]


def test_a_message_carries_its_ids_and_a_rising_sequence_number(sqs: Sqs) -> None:
    queue = sqs.fifo()
    first = queue.send("1", "group", MessageDeduplicationId="one")
    second = queue.send("2", "group", MessageDeduplicationId="two")
    assert len(first["SequenceNumber"]) == 20
    if sqs.kind == "ours":  # moto's are random
        assert int(first["SequenceNumber"]) < int(second["SequenceNumber"])
    messages = queue.receive(AttributeNames=["All"])
    attributes = [message["Attributes"] for message in messages]
    assert [one["MessageDeduplicationId"] for one in attributes] == ["one", "two"]
    assert [one["SequenceNumber"] for one in attributes] == [first["SequenceNumber"], second["SequenceNumber"]]
    assert {one["MessageGroupId"] for one in attributes} == {"group"}


def test_a_receive_gives_several_of_one_group_in_order(sqs: Sqs) -> None:
    queue = sqs.fifo()
    for number in range(4):
        queue.send(f"a{number}", "a")
        queue.send(f"b{number}", "b")
    messages = queue.receive(AttributeNames=["All"])
    assert of_group(messages, "a") == ["a0", "a1", "a2", "a3"]
    assert of_group(messages, "b") == ["b0", "b1", "b2", "b3"]


def test_while_a_message_is_in_flight_its_group_gives_nothing_more(sqs: Sqs) -> None:
    queue = sqs.fifo()
    for body in ("1", "2", "3"):
        queue.send(body, "busy")
    (held,) = queue.receive(1)
    queue.send("x", "idle")
    assert queue.bodies() == ["x"]
    assert queue.bodies() == []
    queue.delete(held)
    assert queue.bodies() == ["2", "3"]


def test_a_message_that_is_shown_again_comes_before_those_behind_it(sqs: Sqs) -> None:
    queue = sqs.fifo(VisibilityTimeout="60")
    for body in ("1", "2"):
        queue.send(body, "g")
    (held,) = queue.receive(1)
    assert held["Body"] == "1"
    queue.hide(held, 0)
    assert queue.bodies(WaitTimeSeconds=1) == ["1", "2"]


def test_a_group_goes_on_when_a_time_out_is_over(sqs: Sqs) -> None:
    queue = sqs.fifo(VisibilityTimeout="1")
    for body in ("1", "2"):
        queue.send(body, "g")
    assert queue.bodies(1) == ["1"]
    assert queue.bodies() == []
    assert queue.bodies(WaitTimeSeconds=4) == ["1", "2"]


def test_what_was_sent_just_now_is_not_sent_again(sqs: Sqs) -> None:
    queue = sqs.fifo()
    first = queue.send("first", "g", MessageDeduplicationId="same")
    second = queue.send("second", "g", MessageDeduplicationId="same")
    if sqs.kind == "ours":  # moto answers with new ones
        assert (second["MessageId"], second["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    assert queue.bodies() == ["first"]


def test_what_was_sent_just_now_is_not_sent_again_though_it_was_deleted(ours: Sqs) -> None:
    """Moto forgets an id with its message."""
    queue = ours.fifo()
    first = queue.send("first", "g", MessageDeduplicationId="same")
    queue.delete(queue.receive()[0])
    assert queue.send("second", "g", MessageDeduplicationId="same")["MessageId"] == first["MessageId"]
    assert queue.counts() == (0, 0, 0)


def test_duplicates_in_a_batch_are_found_too(sqs: Sqs) -> None:
    queue = sqs.fifo()
    answer = queue.send_batch(entry("a", "x", "g", "same"), entry("b", "x", "g", "same"), entry("c", "y", "g"))
    ids = [one["MessageId"] for one in answer["Successful"]]
    if sqs.kind == "ours":  # moto answers with new ones
        assert ids[0] == ids[1] != ids[2]
    assert queue.bodies() == ["x", "y"]


def test_the_body_stands_for_the_id_when_the_queue_says_so(sqs: Sqs) -> None:
    queue = sqs.fifo(ContentBasedDeduplication="true")
    for _ in range(2):
        queue.client.send_message(QueueUrl=queue.url, MessageBody="same", MessageGroupId="g")
    queue.client.send_message(QueueUrl=queue.url, MessageBody="other", MessageGroupId="g")
    queue.client.send_message(
        QueueUrl=queue.url, MessageBody="same", MessageGroupId="g", MessageDeduplicationId="own"
    )
    assert queue.bodies() == ["same", "other", "same"]


def test_ids_count_for_the_whole_queue_or_for_each_group(ours: Sqs) -> None:
    """Moto knows the attribute, and counts for the whole queue all the same."""
    whole, grouped = ours.fifo(), ours.fifo(**HIGH_THROUGHPUT)
    for queue in (whole, grouped):
        for group in ("a", "b"):
            queue.send(group, group, MessageDeduplicationId="same")
    assert whole.bodies() == ["a"]
    assert sorted(grouped.bodies()) == ["a", "b"]


def test_a_message_needs_a_group_and_an_id(sqs: Sqs) -> None:
    queue = sqs.fifo()
    with refused("MissingParameter", "MessageGroupId"):
        queue.client.send_message(QueueUrl=queue.url, MessageBody="x", MessageDeduplicationId="d")
    with refused("InvalidParameterValue", "ContentBasedDeduplication"):
        queue.client.send_message(QueueUrl=queue.url, MessageBody="x", MessageGroupId="g")


def test_a_message_has_no_delay_of_its_own(sqs: Sqs) -> None:
    queue = sqs.fifo()
    with refused("InvalidParameterValue", "DelaySeconds"):
        queue.send("x", DelaySeconds=1)
    queue.send("x", DelaySeconds=0)
    assert queue.bodies() == ["x"]


def test_the_queue_may_delay_all(sqs: Sqs) -> None:
    queue = sqs.fifo(DelaySeconds="1")
    queue.send("1", "g")
    queue.send("2", "g")
    assert queue.counts() == (0, 0, 2)
    assert queue.bodies(WaitTimeSeconds=3)[0] == "1"


def test_a_dead_letter_leaves_its_group_to_the_next(sqs: Sqs) -> None:
    dead = sqs.fifo()
    queue = sqs.fifo(RedrivePolicy=f'{{"deadLetterTargetArn":"{dead.arn}","maxReceiveCount":"1"}}')
    queue.send("poison", "g")
    queue.send("sound", "g")
    assert queue.bodies(1, VisibilityTimeout=0) == ["poison"]
    assert queue.bodies(WaitTimeSeconds=1) == ["sound"]
    assert dead.bodies() == ["poison"]


def consume(queue: Queue, seen: list[tuple[str, str]], lock: threading.Lock, most: int, total: int) -> None:
    """Receive, note, delete, until all were seen. The note is made while the group is held, so it shows its order."""
    while len(seen) < total:
        messages = queue.receive(most, AttributeNames=["MessageGroupId"], WaitTimeSeconds=1)
        with lock:
            seen.extend((message["Attributes"]["MessageGroupId"], message["Body"]) for message in messages)
        for message in messages:
            queue.delete(message)


def test_receivers_that_compete_keep_the_order_of_each_group(ours: Sqs) -> None:
    queue = ours.fifo(**HIGH_THROUGHPUT)
    groups, each = [f"g{number}" for number in range(12)], 25
    seen: list[tuple[str, str]] = []
    lock = threading.Lock()
    total = len(groups) * each

    def produce(mine: list[str]) -> None:
        for number in range(each):
            queue.send_batch(*(entry(group, f"{number:03}", group) for group in mine))

    receivers = [threading.Thread(target=consume, args=(queue, seen, lock, most, total)) for most in (1, 2, 3, 10)]
    senders = [threading.Thread(target=produce, args=(groups[start::3],)) for start in range(3)]
    for thread in (*receivers, *senders):
        thread.start()
    for thread in (*senders, *receivers):
        thread.join(60)
        assert not thread.is_alive()
    by_group = defaultdict(list)
    for group, body in seen:
        by_group[group].append(body)
    assert by_group == {group: [f"{number:03}" for number in range(each)] for group in groups}
    assert queue.counts() == (0, 0, 0)


@pytest.mark.parametrize(("position", "given"), [(0, []), (1, ["1"]), (2, ["1", "2"])])
def test_nothing_is_given_past_a_message_in_flight(ours: Sqs, position: int, given: list[str]) -> None:
    """As recorded against AWS: what stands before the hidden message is given, what stands behind it is not."""
    queue = ours.fifo(VisibilityTimeout="60")
    for body in ("1", "2", "3"):
        queue.send(body, "g")
    held = queue.receive()
    for index, message in enumerate(held):
        if index != position:
            queue.hide(message, 0)
    eventually(lambda: queue.counts() == (2, 1, 0), "two can be received")
    assert queue.bodies() == given


def test_a_handle_is_worth_nothing_once_its_time_out_is_over(ours: Sqs) -> None:
    queue = ours.fifo()
    queue.send("x")
    (first,) = queue.receive(VisibilityTimeout=0)
    with refused("InvalidParameterValue", "The receipt handle has expired"):
        queue.delete(first)
    with refused("InvalidParameterValue", "not available for visibility timeout change"):
        queue.hide(first, 1)
    (second,) = queue.receive(VisibilityTimeout=60)
    with refused("InvalidParameterValue", "The receipt handle has expired"):
        queue.delete(first)
    queue.delete(second)
    queue.delete(second)
    assert queue.counts() == (0, 0, 0)


def test_a_receive_takes_all_it_can_of_one_group_before_the_next(ours: Sqs) -> None:
    queue = ours.fifo()
    for number in range(3):
        for group in ("a", "b"):
            queue.send(f"{group}{number}", group)
    assert queue.bodies(4) == ["a0", "a1", "a2", "b0"]


def test_what_has_waited_longest_comes_first(ours: Sqs) -> None:
    """A group that is never empty does not keep the others waiting."""
    queue = ours.fifo()
    for body in ("a0", "b0", "a1", "a2", "c0"):
        queue.send(body, body[0])
    given: list[str] = []
    for _ in range(5):
        (message,) = queue.receive(1)
        queue.delete(message)
        given.append(message["Body"])
    assert given == ["a0", "b0", "a1", "a2", "c0"]
