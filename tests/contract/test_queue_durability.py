"""What our queue server has answered survives SIGKILL, also under load."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.gateway import eventually
from tests.support.queue_server import QueueServerProcess
from tests.support.sqs import Queue

FIFO, STANDARD = "delivery.fifo", "confirmation"
KILLS = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QueueServerProcess]:
    with QueueServerProcess.running(tmp_path, queues=[FIFO, STANDARD]) as running:
        yield running


def queue_of(server: QueueServerProcess, name: str) -> Queue:
    return Queue(server.client(max_pool_connections=10), server.queue_url(name))


def drain(queue: Queue) -> list[str]:
    """Receive and delete all that can be had."""
    bodies: list[str] = []
    while messages := queue.receive():
        bodies += [message["Body"] for message in messages]
        queue.client.delete_message_batch(
            QueueUrl=queue.url,
            Entries=[{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)],
        )
    return bodies


@pytest.mark.parametrize("name", [FIFO, STANDARD])
def test_every_send_that_was_answered_is_there_after_kills(server: QueueServerProcess, name: str) -> None:
    queue = queue_of(server, name)
    answered: list[str] = []
    asked: set[str] = set()
    stop = threading.Event()

    def send(group: str) -> None:
        while not stop.is_set():
            bodies = [f"{group}-{uuid.uuid4().hex}" for _ in range(3)]
            asked.update(bodies)
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
            if queue.fifo:
                entries = [
                    {**entry, "MessageGroupId": group, "MessageDeduplicationId": entry["MessageBody"]}
                    for entry in entries
                ]
            with contextlib.suppress(BotoCoreError, ClientError):  # it was killed meanwhile: nothing was promised
                # An answer that broke off may name none: then nothing was promised either.
                sent = queue.send_batch(*entries).get("Successful", ())
                answered.extend(bodies[int(one["Id"])] for one in sent)

    threads = [threading.Thread(target=send, args=(f"g{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            before = len(answered)
            eventually(lambda before=before: len(answered) > before + 60, "sends are answered", 20)  # type: ignore[misc]
            server.kill()
            server.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    found = drain(queue)
    assert set(answered) <= set(found) <= asked
    assert len(found) == len(set(found))
    if queue.fifo:
        for group in {body.partition("-")[0] for body in answered}:
            mine = [body for body in answered if body.startswith(f"{group}-")]
            kept = set(mine)
            assert [body for body in found if body in kept] == mine


def test_what_happened_to_messages_survives_too(server: QueueServerProcess) -> None:
    queue = queue_of(server, FIFO)
    for body in ("deleted", "held", "behind"):
        queue.send(body, body[0])
    first = queue.receive(1)[0]
    queue.delete(first)
    (held,) = queue.receive(1, VisibilityTimeout=600)
    again = {"MessageDeduplicationId": "same"}
    sent = queue.send("once", "o", **again)
    server.kill()
    server.start()
    assert (first["Body"], held["Body"]) == ("deleted", "held")
    assert queue.counts() == (2, 1, 0)
    assert queue.send("twice", "o", **again)["MessageId"] == sent["MessageId"]
    assert queue.bodies() == ["behind", "once"]
    queue.hide(held, 0)
    (message,) = queue.receive(AttributeNames=["ApproximateReceiveCount"], WaitTimeSeconds=1)
    assert message["Attributes"] == {"ApproximateReceiveCount": "2"}
    queue.delete(message)


def test_attributes_of_queues_survive_and_are_not_set_back_by_a_start(server: QueueServerProcess) -> None:
    queue = queue_of(server, FIFO)
    expected = {
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
        "MessageRetentionPeriod": "1209600",
        "MaximumMessageSize": "1048576",
        "VisibilityTimeout": "90",
        "ContentBasedDeduplication": "false",
    }
    assert expected.items() <= queue.attributes().items()
    queue.change(VisibilityTimeout="5")
    server.kill()
    server.start()
    assert {**expected, "VisibilityTimeout": "5"}.items() <= queue.attributes().items()
    standard = queue_of(server, STANDARD).attributes()
    assert (standard["VisibilityTimeout"], standard["MessageRetentionPeriod"]) == ("90", "1209600")
    assert "FifoQueue" not in standard


def test_thousands_of_messages_in_a_queue_slow_nothing(server: QueueServerProcess) -> None:
    """Ten thousand wait, half of them in one group that is held: sends and receives are as quick as before."""
    queue = queue_of(server, FIFO)

    def batch(groups: list[str]) -> list[dict[str, str]]:
        ids = [uuid.uuid4().hex for _ in groups]
        return [
            {"Id": str(n), "MessageBody": "x" * 500, "MessageGroupId": group, "MessageDeduplicationId": ids[n]}
            for n, group in enumerate(groups)
        ]

    def took_s() -> float:
        begun = time.perf_counter()
        for _ in range(20):
            queue.send_batch(*batch([f"new-{n}" for n in range(10)]))
            for message in queue.receive(10):
                queue.delete(message)
        return time.perf_counter() - begun

    queue.send("held", "one")
    queue.receive(1, VisibilityTimeout=600)
    empty_s = took_s()
    for number in range(500):
        queue.send_batch(*batch(["one"] * 10))
        queue.send_batch(*batch([f"g{number}-{n}" for n in range(10)]))
    assert sum(queue.counts()) > 10_000
    full_s = took_s()
    assert full_s < 3 * empty_s + 1, json.dumps({"empty_s": empty_s, "full_s": full_s})
