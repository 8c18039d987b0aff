"""What minutes and days do to messages, by a clock that the test sets; for our queue server alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.queue_server import Clock, QueueServerThread
from tests.support.sqs import Sqs, refused

HOUR_S = 3_600


@pytest.fixture
def clock() -> Clock:
    return Clock(1_795_000_000.0)


@pytest.fixture
def timed(clock: Clock, tmp_path: Path) -> Iterator[Sqs]:
    """Give a server of one's own that goes by the clock, and allows three messages in flight."""
    with QueueServerThread.running(tmp_path / "queues.db", clock=clock, most_in_flight=3) as server:
        client = server.client(parameter_validation=False)
        yield Sqs("ours", client)
        client.close()


@pytest.mark.parametrize("deleted", [False, True])
def test_an_id_counts_for_five_minutes_from_its_first_use(timed: Sqs, clock: Clock, *, deleted: bool) -> None:
    queue = timed.fifo()
    first = queue.send("1", "g", MessageDeduplicationId="same")
    if deleted:
        queue.delete(queue.receive()[0])
    clock.now_s += 200
    assert queue.send("2", "g", MessageDeduplicationId="same")["MessageId"] == first["MessageId"]
    clock.now_s += 99.999
    assert queue.send("3", "g", MessageDeduplicationId="same")["MessageId"] == first["MessageId"]
    clock.now_s += 0.001
    assert queue.send("4", "g", MessageDeduplicationId="same")["MessageId"] != first["MessageId"]
    assert queue.bodies() == (["4"] if deleted else ["1", "4"])


def test_a_message_vanishes_when_its_retention_is_over(timed: Sqs, clock: Clock) -> None:
    for queue in (timed.queue(MessageRetentionPeriod="1209600"), timed.fifo(MessageRetentionPeriod="1209600")):
        queue.send("old")
        (held,) = queue.receive(VisibilityTimeout=12 * HOUR_S)
        clock.now_s += 14 * 24 * HOUR_S - 60
        queue.send("young")
        assert queue.counts()[0] == 2
        clock.now_s += 60
        assert queue.counts() == (1, 0, 0)
        queue.delete(held)  # what is gone counts as deleted
        assert queue.bodies() == ["young"]


def test_a_message_in_flight_vanishes_too_and_frees_its_group(timed: Sqs, clock: Clock) -> None:
    queue = timed.fifo(MessageRetentionPeriod="60")
    queue.send("old", "g")
    clock.now_s += 30
    queue.send("young", "g")
    (held,) = queue.receive(1, VisibilityTimeout=HOUR_S)
    clock.now_s += 30
    assert queue.bodies() == ["young"]
    with refused("InvalidParameterValue", "Message does not exist"):
        queue.hide(held, 10)


def test_delays_and_time_outs_end_to_the_millisecond(timed: Sqs, clock: Clock) -> None:
    queue = timed.queue()
    queue.send("x", DelaySeconds=900)
    clock.now_s += 899.999
    assert queue.bodies() == []
    clock.now_s += 0.001
    assert queue.bodies(VisibilityTimeout=30) == ["x"]
    clock.now_s += 29.999
    assert queue.bodies() == []
    clock.now_s += 0.001
    assert queue.bodies() == ["x"]


def test_a_message_is_hidden_for_twelve_hours_at_most_from_its_receive(timed: Sqs, clock: Clock) -> None:
    queue = timed.queue()
    queue.send("x")
    (message,) = queue.receive(VisibilityTimeout=60)
    queue.hide(message, 12 * HOUR_S)
    clock.now_s += HOUR_S
    with refused("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit"):
        queue.hide(message, 11 * HOUR_S + 1)
    queue.hide(message, 11 * HOUR_S)


def test_a_dead_letter_keeps_its_age_in_a_standard_queue_and_not_in_fifo(timed: Sqs, clock: Clock) -> None:
    for make in (timed.queue, timed.fifo):
        dead = make(MessageRetentionPeriod="3600")
        policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
        queue = make(MessageRetentionPeriod="7200", RedrivePolicy=policy)
        queue.send("x")
        queue.receive(VisibilityTimeout=0)
        clock.now_s += 1_800
        assert queue.bodies() == []
        assert dead.counts() == (1, 0, 0)
        clock.now_s += 1_800
        assert dead.counts() == ((1, 0, 0) if dead.fifo else (0, 0, 0))


def test_a_new_delay_holds_for_what_a_fifo_queue_has_already(timed: Sqs, clock: Clock) -> None:
    fifo, standard = timed.fifo(), timed.queue()
    for queue in (fifo, standard):
        queue.send("x")
        queue.change(DelaySeconds="60")
    assert (fifo.counts(), standard.counts()) == ((0, 0, 1), (1, 0, 0))
    assert fifo.bodies() == []
    clock.now_s += 60
    assert fifo.bodies() == ["x"]


def test_pauses_of_a_minute_end(timed: Sqs, clock: Clock) -> None:
    queue = timed.queue()
    name = queue.url.rpartition("/")[2]
    queue.client.purge_queue(QueueUrl=queue.url)
    clock.now_s += 60
    queue.client.purge_queue(QueueUrl=queue.url)
    queue.client.delete_queue(QueueUrl=queue.url)
    clock.now_s += 60
    queue.client.create_queue(QueueName=name)
    assert queue.counts() == (0, 0, 0)


def test_so_many_messages_are_in_flight_and_no_more(timed: Sqs) -> None:
    """A short poll of a standard queue is told so; any other poll gets nothing."""
    standard, fifo = timed.queue(), timed.fifo()
    for queue in (standard, fifo):
        for number in range(5):
            queue.send(str(number), f"g{number}")
        assert len(queue.receive(2)) == 2
        (held,) = queue.receive(2)
        if queue.fifo:
            assert queue.receive() == []
        else:
            with refused("OverLimit"):
                queue.receive()
            assert queue.receive(WaitTimeSeconds=1) == []
        queue.delete(held)
        assert len(queue.receive()) == 1
