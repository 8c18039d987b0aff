"""HTTP and JSON of our queue server: generated garbage is refused in AWS's form, and never is anything a 5xx."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzzing import fuzz
from tests.support.gateway import NO_TLS, ROOT, free_port
from tests.support.queue_server import QueueServerProcess
from tests.support.sqs import Queue, Sqs

#: By action, a request that is taken once the queue's URL is in it: what is generated spoils members of it.
SOUND: dict[str, dict[str, Any]] = {
    "CreateQueue": {"QueueName": "generated"},
    "GetQueueUrl": {"QueueName": "generated"},
    "ListQueues": {},
    "GetQueueAttributes": {"AttributeNames": ["All"]},
    "SetQueueAttributes": {"Attributes": {"DelaySeconds": "0"}},
    "SendMessage": {"MessageBody": "x", "MessageGroupId": "g"},
    "SendMessageBatch": {"Entries": [{"Id": "a", "MessageBody": "x", "MessageGroupId": "g"}]},
    "ReceiveMessage": {"MaxNumberOfMessages": 10, "VisibilityTimeout": 0},
    "DeleteMessage": {"ReceiptHandle": "x"},
    "DeleteMessageBatch": {"Entries": [{"Id": "a", "ReceiptHandle": "x"}]},
    "ChangeMessageVisibility": {"ReceiptHandle": "x", "VisibilityTimeout": 1},
    "ChangeMessageVisibilityBatch": {"Entries": [{"Id": "a", "ReceiptHandle": "x", "VisibilityTimeout": 1}]},
}
ACTIONS = sorted(SOUND)
MEMBERS = [
    "QueueName",
    "Attributes",
    "AttributeNames",
    "MessageSystemAttributeNames",
    "MessageAttributeNames",
    "MessageBody",
    "MessageGroupId",
    "MessageDeduplicationId",
    "MessageAttributes",
    "MessageSystemAttributes",
    "DelaySeconds",
    "MaxNumberOfMessages",
    "VisibilityTimeout",
    "ReceiptHandle",
    "QueueNamePrefix",
    "NextToken",
    "MaxResults",
    "Id",
    "tags",
]
QUEUE_MEMBERS = ["FifoQueue", "RedrivePolicy", "VisibilityTimeout", "DelaySeconds", "Policy", "DeduplicationScope"]

texts = st.one_of(
    st.text(max_size=12),
    st.characters(categories=["Cs", "Cc"]),
    st.sampled_from(["true", "1", "All", "q.fifo", "x", "AAAA", '{"deadLetterTargetArn":"a","maxReceiveCount":1}']),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
attribute = st.dictionaries(st.sampled_from(["DataType", "StringValue", "BinaryValue", "x"]), scalars, max_size=3)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.one_of(texts, st.sampled_from(QUEUE_MEMBERS)), scalars, max_size=3),
    st.dictionaries(texts, attribute, max_size=2),
)
members = st.dictionaries(st.sampled_from(MEMBERS), values, max_size=3)
requests = st.builds(
    lambda fields, entries: {**fields, **({} if entries is None else {"Entries": entries})},
    members,
    st.one_of(st.none(), scalars, st.lists(st.one_of(scalars, members), max_size=3)),
)


class Wire:
    """Requests that are signed soundly, whatever is in them."""

    def __init__(self, server: QueueServerProcess, queues: list[str]) -> None:
        self._url = f"{server.url}/"
        self._signer = SigV4Auth(Credentials(server.access_key, server.secret_key), "sqs", "us-east-1")
        self._client = httpx.Client(verify=NO_TLS, timeout=30)
        self.queues = queues

    def ask(self, action: str, body: bytes) -> httpx.Response:
        request = AWSRequest("POST", self._url, {"X-Amz-Target": action}, body)
        self._signer.add_auth(request)
        return self._client.post(self._url, content=body, headers=dict(request.headers))

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def wire(queue_server: QueueServerProcess, ours: Sqs) -> Iterator[Wire]:
    standard, fifo = ours.queue(), ours.fifo(ContentBasedDeduplication="true")
    wire = Wire(queue_server, [standard.url, fifo.url])
    yield wire
    wire.close()
    for queue in (standard, fifo):
        queue.receive()  # whatever was sent, the queue still works


def kind(response: httpx.Response) -> str:
    """Give the `__type` of a refusal, without its namespace."""
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["x-amzn-query-error"].endswith(";Sender")
    name: str = response.json()["__type"]
    return name.rpartition("#")[2]


@fuzz(600)
@given(action=st.sampled_from(ACTIONS), fields=requests, queue=st.sampled_from([0, 1, 2]))
def test_requests_of_any_shape_are_answered_or_refused(
    wire: Wire, action: str, fields: dict[str, Any], queue: int
) -> None:
    url = [*wire.queues, "nowhere"][queue]
    sound = {"QueueUrl": url, **SOUND[action]}
    response = wire.ask(f"AmazonSQS.{action}", json.dumps({**sound, **fields}).encode())
    if response.status_code != 200:
        assert kind(response)


@fuzz(200)
@given(action=st.sampled_from(ACTIONS), body=st.binary(max_size=200))
def test_bodies_that_are_no_json_are_refused(wire: Wire, action: str, body: bytes) -> None:
    assert kind(wire.ask(f"AmazonSQS.{action}", b"\xff" + body)) == "SerializationException"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"DelaySeconds":' + b"9" * 5_000 + b"}",
    ],
)
def test_bodies_that_are_no_object_are_refused(wire: Wire, body: bytes) -> None:
    assert kind(wire.ask("AmazonSQS.ListQueues", body)) == "SerializationException"


@pytest.mark.parametrize(
    "fields",
    [
        {"MessageBody": 1},
        {"MessageBody": ["x"]},
        {"MessageBody": "x", "DelaySeconds": "1"},
        {"MessageBody": "x", "DelaySeconds": 1.5},
        {"MessageBody": "x", "DelaySeconds": True},
        {"MessageBody": "x", "MessageAttributes": []},
        {"MessageBody": "x", "MessageAttributes": {"a": "x"}},
        {"MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "no base64"}}},
    ],
)
def test_values_of_a_wrong_type_are_refused(wire: Wire, fields: dict[str, Any]) -> None:
    body = json.dumps({"QueueUrl": wire.queues[0], **fields}).encode()
    assert kind(wire.ask("AmazonSQS.SendMessage", body)) == "SerializationException"


@pytest.mark.parametrize("target", ["AmazonSQS.Nonsense", "AmazonSQS.", "DynamoDB_20120810.ListTables", ""])
def test_an_action_that_does_not_exist_is_refused(wire: Wire, target: str) -> None:
    assert kind(wire.ask(target, b"{}")) == "UnknownOperationException"


def test_a_body_that_no_request_needs_is_refused(wire: Wire) -> None:
    response = wire.ask("AmazonSQS.SendMessage", b" " * (16 * 1_048_576 + 1))
    assert (response.status_code, kind(response)) == (413, "RequestEntityTooLargeException")


def test_an_escaped_message_of_the_largest_size_passes(wire: Wire, ours: Sqs) -> None:
    """JSON writes each of these characters as six bytes."""
    queue = ours.queue()
    body = "\u0100" * 524_288
    assert wire.ask(
        "AmazonSQS.SendMessage", json.dumps({"QueueUrl": queue.url, "MessageBody": body}).encode()
    ).is_success
    assert queue.bodies() == [body]


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "infra.local.queue_server", "--port", str(free_port()), *arguments]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_a_start_that_cannot_be_says_why(tmp_path: Path, queue_server: QueueServerProcess) -> None:
    file = str(tmp_path / "queues.db")
    keys = queue_server.environment
    absent = run(["--data", file], {"PATH": ""})
    assert absent.returncode == 1
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in absent.stderr
    named = run(["--data", file, "--queue", "a b"], keys)
    assert named.returncode == 2
    assert "--queue a b" in named.stderr
    directory = run(["--data", str(tmp_path)], keys)
    assert directory.returncode != 0
    assert "unable to open database file" in directory.stderr
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database" * 1_000)
    damaged = run(["--data", str(garbage)], keys)
    assert damaged.returncode != 0
    assert "file is not a database" in damaged.stderr


def test_one_file_is_for_one_server(queue_server: QueueServerProcess) -> None:
    second = run(["--data", str(queue_server.data)], queue_server.environment)
    assert second.returncode != 0
    assert "database is locked" in second.stderr


def test_a_ready_server_says_so_in_one_line_and_stops_when_told(tmp_path: Path) -> None:
    with QueueServerProcess.running(tmp_path, queues=["a", "b.fifo"]) as server:
        queue = Queue(server.client(), server.queue_url("a"))
        queue.send("x")
        assert server.log() == f"queue server: ready on {server.url}\n"
        assert server.stop() == 0
        server.start()
        assert queue.bodies() == ["x"]
