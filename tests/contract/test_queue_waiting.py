"""Long polls of our queue server: they wake at once, and take nothing for a client that has left."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.gateway import NO_TLS, eventually
from tests.support.queue_server import QueueServerProcess
from tests.support.sqs import Queue, Sqs, refused

#: What "at once" is on a machine that is busy with other tests. A poll that misses its bell takes 20 s.
AT_ONCE_S = 2.0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waiting(threads: ThreadPoolExecutor, queue: Queue) -> Future[tuple[list[str], float]]:
    """Start a long poll; it gives the bodies and when it ended. It has surely begun when this returns."""
    begun = threading.Event()

    def poll() -> tuple[list[str], float]:
        begun.set()
        return queue.bodies(WaitTimeSeconds=20), time.monotonic()

    future = threads.submit(poll)
    begun.wait()
    with pytest.raises(TimeoutError):
        future.result(0.3)  # it waits for messages, and not for its turn
    return future


def wakes(future: Future[tuple[list[str], float]], act: Callable[[], object]) -> list[str]:
    """Act, and give what the poll then got at once."""
    acted = time.monotonic()
    act()
    bodies, ended = future.result(20)
    assert ended - acted < AT_ONCE_S
    return bodies


def test_a_poll_wakes_when_a_message_is_sent(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    for queue in (ours.queue(), ours.fifo()):
        future = waiting(threads, queue)
        assert wakes(future, lambda queue=queue: queue.send("x")) == ["x"]  # type: ignore[misc]


def test_a_poll_wakes_when_a_message_is_shown_again(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    for queue in (ours.queue(), ours.fifo()):
        queue.send("x")
        (held,) = queue.receive(VisibilityTimeout=600)
        future = waiting(threads, queue)
        assert wakes(future, lambda queue=queue, held=held: queue.hide(held, 0)) == ["x"]  # type: ignore[misc]


def test_a_poll_wakes_when_a_group_is_freed(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    queue = ours.fifo()
    queue.send("1", "g")
    queue.send("2", "g")
    (held,) = queue.receive(1, VisibilityTimeout=600)
    future = waiting(threads, queue)
    assert wakes(future, lambda: queue.delete(held)) == ["2"]


def test_a_poll_wakes_when_a_time_out_or_a_delay_ends(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    for queue in (ours.queue(), ours.fifo()):
        queue.send("x")
        queue.receive(VisibilityTimeout=1)
        assert wakes(waiting(threads, queue), lambda: None) == ["x"]
    queue = ours.queue()
    queue.send("y", DelaySeconds=1)
    assert wakes(waiting(threads, queue), lambda: None) == ["y"]


def test_a_poll_wakes_when_a_dead_letter_comes(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    dead = ours.queue()
    queue = ours.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}))
    queue.send("poison")
    queue.receive(VisibilityTimeout=0)
    future = waiting(threads, dead)
    assert wakes(future, queue.receive) == ["poison"]


def test_a_poll_ends_when_its_queue_is_deleted(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    queue = ours.queue()
    future = waiting(threads, queue)
    queue.client.delete_queue(QueueUrl=queue.url)
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        future.result(AT_ONCE_S)


def test_a_poll_without_messages_ends_with_its_time_which_may_be_the_queue_s(ours: Sqs) -> None:
    queue = ours.queue(ReceiveMessageWaitTimeSeconds="1")
    for wait, expected in (({}, 1), ({"WaitTimeSeconds": 2}, 2), ({"WaitTimeSeconds": 0}, 0)):
        begun = time.monotonic()
        assert queue.bodies(**wait) == []
        assert expected <= time.monotonic() - begun < expected + AT_ONCE_S


def test_of_many_polls_each_message_wakes_one(ours: Sqs, threads: ThreadPoolExecutor) -> None:
    queue = ours.queue()
    futures = [waiting(threads, queue) for _ in range(5)]
    for number in range(5):
        queue.send(str(number))
        eventually(lambda number=number: sum(future.done() for future in futures) == number + 1, "one more woke")  # type: ignore[misc]
    assert sorted(body for future in futures for body in future.result()[0]) == ["0", "1", "2", "3", "4"]


def test_a_message_is_not_taken_for_a_client_that_has_left(ours: Sqs, queue_server: QueueServerProcess) -> None:
    queue = ours.queue()
    body = json.dumps({"QueueUrl": queue.url, "WaitTimeSeconds": 20})
    headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", f"{queue_server.url}/", headers, body)
    SigV4Auth(Credentials(queue_server.access_key, queue_server.secret_key), "sqs", "us-east-1").add_auth(request)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(request.url, content=body, headers=dict(request.headers), timeout=0.5, verify=NO_TLS)
    queue.send("for somebody who is there")
    assert queue.bodies() == ["for somebody who is there"]


def test_a_server_that_stops_answers_its_polls(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with QueueServerProcess.running(tmp_path, queues=["q"]) as server:
        queue = Queue(server.client(), server.queue_url("q"))
        future = waiting(threads, queue)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < AT_ONCE_S
        assert future.result(AT_ONCE_S)[0] == []
