"""Queues of one's own on some server, and short words for what tests do with them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError


class Queue:
    """One queue, and the client that reaches it."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url

    @property
    def fifo(self) -> bool:
        return self.url.endswith(".fifo")

    def send(self, body: str, group: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a message; on a FIFO queue with an id of its own unless one is given."""
        if self.fifo:
            parameters = {"MessageDeduplicationId": uuid.uuid4().hex, "MessageGroupId": group or "g", **parameters}
        elif group is not None:
            parameters["MessageGroupId"] = group
        answer: dict[str, Any] = self.client.send_message(QueueUrl=self.url, MessageBody=body, **parameters)
        return answer

    def send_batch(self, *entries: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.send_message_batch(QueueUrl=self.url, Entries=list(entries))
        return answer

    def receive(self, most: int = 10, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=most, **parameters)
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def bodies(self, most: int = 10, **parameters: Any) -> list[str]:
        return [message["Body"] for message in self.receive(most, **parameters)]

    def delete(self, message: dict[str, Any]) -> None:
        self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, message: dict[str, Any], visibility_s: int) -> None:
        self.client.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=visibility_s
        )

    def attributes(self, *names: str) -> dict[str, str]:
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names) or ["All"])
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes

    def change(self, **attributes: str) -> None:
        self.client.set_queue_attributes(QueueUrl=self.url, Attributes=attributes)

    def counts(self) -> tuple[int, int, int]:
        """Give how many messages can be received, are in flight, and are delayed."""
        held = self.attributes()
        names = ("", "NotVisible", "Delayed")
        visible, in_flight, delayed = (int(held[f"ApproximateNumberOfMessages{name}"]) for name in names)
        return visible, in_flight, delayed

    @property
    def arn(self) -> str:
        return self.attributes("QueueArn")["QueueArn"]


class Sqs:
    """A server, and queues that no other test has. ``kind`` is "ours" or "moto"."""

    def __init__(self, kind: str, client: Any) -> None:
        self.kind = kind
        self.client = client

    def queue(self, **attributes: str) -> Queue:
        """Make a standard queue."""
        return self._make(f"q-{uuid.uuid4().hex}", attributes)

    def fifo(self, **attributes: str) -> Queue:
        """Make a FIFO queue."""
        return self._make(f"q-{uuid.uuid4().hex}.fifo", {"FifoQueue": "true", **attributes})

    def _make(self, name: str, attributes: dict[str, str]) -> Queue:
        url = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return Queue(self.client, url)


@contextlib.contextmanager
def refused(code: str, text: str = "", *, status: int = 400) -> Iterator[None]:
    """Expect that the block is refused with this code, and with this in its message."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    assert text in error["Message"], error
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
