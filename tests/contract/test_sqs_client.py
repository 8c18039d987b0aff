"""Our client of SQS: one suite over our queue server and moto, and then over servers that fail it in every way."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.local.loopback import reset
from infra.local.queue_server import REGION
from shared import sqs as sqs_module
from shared.errors import QueueUnavailableError
from shared.settings import AwsAccess
from shared.sqs import MAX_MESSAGE_BYTES, Message, Sqs
from tests.support.gateway import ROOT, free_port
from tests.support.lambda_events import process_environment
from tests.support.scripted_server import Connection, ScriptedServer
from tests.support.waiting import until

NOBODY = AwsAccess(REGION, "id", "secret", None)
FIFO = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
SENT = b'{"MessageId":"m-1"}'

Create = Callable[..., Sqs]


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# --- over two servers --------------------------------------------------------------------------------------


@pytest.fixture(params=["ours", "moto"])
async def create(request: pytest.FixtureRequest) -> AsyncIterator[Create]:
    """Give what makes a queue, and a client of it."""
    if request.param == "ours":
        server = request.getfixturevalue("queue_server")
        access = AwsAccess(REGION, server.access_key, server.secret_key, None)
    else:
        server, access = request.getfixturevalue("moto_server"), AwsAccess(REGION, "testing", "testing", None)
    boto = server.client()
    made: list[Sqs] = []

    def queue(*, fifo: bool = False, **attributes: str) -> Sqs:
        name = f"q-{secrets.token_hex(6)}" + (".fifo" if fifo else "")
        told = {**(FIFO if fifo else {}), **attributes}
        made.append(Sqs(boto.create_queue(QueueName=name, Attributes=told)["QueueUrl"], access))
        return made[-1]

    yield queue
    for sqs in made:
        await sqs.close()
    boto.close()


def bodies(messages: Any) -> list[str]:
    return [message.body for message in messages]


async def all_bodies(sqs: Sqs, count: int) -> list[str]:
    """Receive until so many are there."""
    found: list[Message] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await sqs.receive(hidden_s=60, wait_s=1)
    return bodies(found)


async def test_a_message_comes_back_as_it_was_sent(create: Create) -> None:
    """With its id, when it was sent, how often it was received, and its group."""
    sqs = create(fifo=True)
    body = json.dumps({"text": "Größe 🌊 \n\t"}, ensure_ascii=False)
    message_id = await sqs.send(body, group="g-1", dedupe_id="d-1")
    (message,) = await sqs.receive(hidden_s=60)
    assert (message.id, message.body, message.group, message.receives) == (message_id, body, "g-1", 1)
    assert abs(message.sent_ms / 1000 - time.time()) < 30
    assert await sqs.receive(hidden_s=60) == []


async def test_a_group_keeps_its_order(create: Create) -> None:
    """Ten are received at most, in the order in which they were sent."""
    sqs = create(fifo=True)
    for number in range(12):
        await sqs.send(str(number), group="g", dedupe_id=str(number))
    first = await sqs.receive(hidden_s=60)
    assert bodies(first) == [str(number) for number in range(10)]
    await sqs.delete([message.receipt for message in first])
    assert bodies(await sqs.receive(hidden_s=60)) == ["10", "11"]


async def test_a_second_copy_is_not_taken(create: Create) -> None:
    """A FIFO queue knows it by its dedupe id, so that a send may be repeated freely."""
    sqs = create(fifo=True)
    for text in ("one", "two"):
        await sqs.send(text, group="g", dedupe_id="same")
    assert bodies(await sqs.receive(hidden_s=60)) == ["one"]


async def test_fewer_may_be_asked_for(create: Create) -> None:
    """One at a time, for who wants no more."""
    sqs = create(fifo=True)
    for number in range(3):
        await sqs.send(str(number), group=str(number), dedupe_id=str(number))
    assert len(await sqs.receive(most=1, hidden_s=60)) == 1
    assert len(await sqs.receive(most=2, hidden_s=60)) == 2


async def test_a_message_may_be_delayed(create: Create) -> None:
    """On a standard queue."""
    sqs = create()
    await sqs.send("late", delay_s=1)
    assert await sqs.receive(hidden_s=60) == []
    assert (await sqs.attributes())["ApproximateNumberOfMessagesDelayed"] == "1"
    assert bodies(await sqs.receive(hidden_s=60, wait_s=5)) == ["late"]


async def test_a_receive_waits_for_the_first_message(create: Create) -> None:
    """And no longer: it comes at once."""
    sqs = create()
    waiting = asyncio.ensure_future(sqs.receive(hidden_s=60, wait_s=10))
    await asyncio.sleep(0)
    await sqs.send("at last")
    async with asyncio.timeout(8):
        assert bodies(await waiting) == ["at last"]


async def test_what_is_hidden_shows_again_when_it_is_told_to(create: Create) -> None:
    """At once, with 0; and it counts how often it was received."""
    sqs = create()
    await sqs.send("x")
    (message,) = await sqs.receive(hidden_s=60)
    await sqs.hide({message.receipt: 120})
    assert await sqs.receive(hidden_s=60) == []
    await sqs.hide({message.receipt: 0})
    (again,) = await sqs.receive(hidden_s=60, wait_s=1)
    assert (again.id, again.receives) == (message.id, 2)


async def test_more_than_a_batch_is_hidden_and_deleted(create: Create) -> None:
    """SQS takes ten at a time."""
    sqs = create()
    for number in range(23):
        await sqs.send(str(number))
    found: list[Message] = []
    while len(found) < 23:
        found += await sqs.receive(hidden_s=60, wait_s=1)
    await sqs.hide({message.receipt: 0 for message in found})
    assert sorted(await all_bodies(sqs, 23), key=int) == [str(number) for number in range(23)]
    await sqs.delete([message.receipt for message in found])
    told = await sqs.attributes()
    assert [told[f"ApproximateNumberOfMessages{kind}"] for kind in ("", "NotVisible")] == ["0", "0"]


async def test_nothing_to_do_asks_nothing(create: Create) -> None:
    """An empty batch would be refused."""
    sqs = create()
    await sqs.delete([])
    await sqs.hide({})
    assert sqs._pool is None


async def test_attributes_tell_what_the_queue_is(create: Create) -> None:
    """All of them, as text."""
    told = await create(fifo=True, MessageRetentionPeriod="1209600", VisibilityTimeout="90").attributes()
    assert (told["MessageRetentionPeriod"], told["VisibilityTimeout"]) == ("1209600", "90")
    assert told.items() >= FIFO.items()
    assert told["ApproximateNumberOfMessages"] == "0"


async def test_a_message_of_the_largest_size_passes(create: Create) -> None:
    """And one byte more does not."""
    sqs = create(MaximumMessageSize=str(MAX_MESSAGE_BYTES))
    largest = "x" * MAX_MESSAGE_BYTES
    await sqs.send(largest, timeout_s=10)
    (message,) = await sqs.receive(hidden_s=60, wait_s=1)
    assert message.body == largest
    with pytest.raises(QueueUnavailableError, match="SendMessage was answered 400: Invalid"):
        await sqs.send(largest + "x", timeout_s=10)


async def test_a_queue_that_is_not_there_is_told(create: Create) -> None:
    """By its name, and in the server's words."""
    there = create()
    sqs = Sqs(f"{there.url}-not", there._access)
    with pytest.raises(QueueUnavailableError, match=rf"{sqs.name}: GetQueueAttributes was answered 400: \S*Queue"):
        await sqs.attributes()
    await sqs.close()


async def test_what_fails_for_one_message_of_a_batch_is_an_error(create: Create) -> None:
    """The receipt is none, or was another's."""
    sqs = create()
    await sqs.send("x")
    (message,) = await sqs.receive(hidden_s=60, wait_s=1)
    with pytest.raises(QueueUnavailableError, match="ChangeMessageVisibilityBatch failed for 1 of 2 messages"):
        await sqs.hide({message.receipt: 60, "no receipt": 60})


async def test_a_wrong_secret_is_refused(queue_server: Any) -> None:
    """403, and why. The secret is not told."""
    access = AwsAccess(REGION, queue_server.access_key, "a-wrong-secret", None)
    sqs = Sqs(queue_server.queue_url("any"), access)
    with pytest.raises(QueueUnavailableError, match="was answered 403: InvalidSignatureException") as caught:
        await sqs.attributes()
    assert "a-wrong-secret" not in str(caught.value)
    await sqs.close()


# --- servers that fail -------------------------------------------------------------------------------------


@asynccontextmanager
async def client(server: ScriptedServer | str, **more: Any) -> AsyncIterator[Sqs]:
    """Give a client whose signer is loaded; at the end it leaves no connection and no task."""
    url = server if isinstance(server, str) else server.url
    sqs = Sqs(f"{url}/000000000000/q.fifo", NOBODY, **more)
    await sqs._signer()
    before = asyncio.all_tasks()
    try:
        yield sqs
    finally:
        await sqs.close()
        if isinstance(server, ScriptedServer):
            await until(lambda: server.open == 0, "no connection is left")
            before |= server._tasks
        assert asyncio.all_tasks() <= before


async def test_a_request_is_signed_and_says_what_it_asks() -> None:
    """In AWS's JSON protocol; a session token goes along, signed."""
    asked: list[tuple[str, Mapping[str, str], Any]] = []

    async def answer(connection: Connection) -> None:
        first, body = await connection.request()
        asked.append((first, dict(connection.headers), json.loads(body)))
        await connection.respond(SENT)

    async with ScriptedServer.running(answer) as server:
        sqs = Sqs(f"{server.url}/000000000000/q.fifo", AwsAccess("eu-west-1", "the-id", "the-secret", "the-token"))
        assert await sqs.send("body", group="g", dedupe_id="d") == "m-1"
        await sqs.close()
    ((first, headers, told),) = asked
    assert first == "POST / HTTP/1.1"
    assert (headers["x-amz-target"], headers["content-type"]) == (
        "AmazonSQS.SendMessage",
        "application/x-amz-json-1.0",
    )
    assert headers["x-amz-security-token"] == "the-token"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=the-id/")
    assert "/eu-west-1/sqs/aws4_request" in headers["authorization"]
    assert "x-amz-security-token" in headers["authorization"]
    assert told == {
        "QueueUrl": sqs.url,
        "MessageBody": "body",
        "MessageGroupId": "g",
        "MessageDeduplicationId": "d",
    }


async def test_a_server_that_says_nothing_is_left_in_time() -> None:
    """It accepts, and that is all. The time holds for both tries together, and for the connection, too."""

    async def answer(connection: Connection) -> None:
        await connection.left()

    async with ScriptedServer.running(answer) as server, client(server) as sqs:
        began = time.monotonic()
        with pytest.raises(QueueUnavailableError, match=r"q\.fifo: SendMessage was not answered within 0\.3 s"):
            await sqs.send("x", timeout_s=0.3)
        assert 0.25 < time.monotonic() - began < 1.5


async def half_a_head(connection: Connection) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-")


async def half_a_body(connection: Connection) -> None:
    await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"Messa')


async def no_answer(connection: Connection) -> None:
    del connection


async def a_reset(connection: Connection) -> None:
    reset(connection._writer)


async def garbage(connection: Connection) -> None:
    await connection.respond(b"<html>", kind="text/html")


async def no_object(connection: Connection) -> None:
    await connection.respond(b"[]")


async def server_error(connection: Connection) -> None:
    await connection.respond(b'{"__type":"com.amazonaws.sqs#InternalFailure"}', status="500 Internal Server Error")


async def too_many(connection: Connection) -> None:
    await connection.respond(b'{"__type":"com.amazonaws.sqs#RequestThrottled"}', status="400 Bad Request")


async def forbidden(connection: Connection) -> None:
    told = b'{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not yours"}'
    await connection.respond(told, status="403 Forbidden")


FAULTS = {
    "half a head": (half_a_head, "RemoteProtocolError"),
    "half a body": (half_a_body, "RemoteProtocolError"),
    "no answer": (no_answer, "RemoteProtocolError"),
    "a reset": (a_reset, "ReadError|RemoteProtocolError"),
    "garbage": (garbage, "was answered 200$"),
    "no object": (no_object, "was answered 200$"),
    "500": (server_error, "was answered 500: InternalFailure"),
    "throttled": (too_many, "was answered 400: RequestThrottled"),
    "403": (forbidden, "was answered 403: AccessDeniedException not yours"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
async def test_what_fails_is_tried_once_more(fault: Callable[[Connection], Any], words: str) -> None:
    """It may have been a connection that died, or a bad moment. A second failure is told."""
    asked = 0

    async def always(connection: Connection) -> None:
        nonlocal asked
        await connection.request()
        asked += 1
        await fault(connection)

    async def once(connection: Connection) -> None:
        nonlocal asked
        await connection.request()
        asked += 1
        await (fault(connection) if asked == 1 else connection.respond(SENT))

    async with ScriptedServer.running(always) as server, client(server) as sqs:
        with pytest.raises(QueueUnavailableError, match=words):
            await sqs.send("x")
        assert asked == 2
        asked = 0
        server.script = once
        assert await sqs.send("x") == "m-1"
        assert asked == 2


async def test_a_second_try_does_not_take_another_old_connection() -> None:
    """Two stand open and both have died without a word, as after a freeze: the second try finds a live server."""
    answered = asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.request()
        if connection.number <= 2:
            if connection.number == 2:
                answered.set()
            await answered.wait()
            await connection.respond(SENT)
            await connection.request()
            reset(connection._writer)
            return
        await connection.respond(SENT)

    async with ScriptedServer.running(answer) as server, client(server) as sqs:
        await asyncio.gather(sqs.send("a"), sqs.send("b"))
        assert server.connections == 2
        assert await sqs.send("c") == "m-1"
        assert server.connections == 3


async def test_no_second_try_when_its_time_is_over() -> None:
    """By the clock: a try that could not end in time is not begun."""
    asked = 0
    clock = Clock()

    async def answer(connection: Connection) -> None:
        nonlocal asked
        await connection.request()
        asked += 1
        clock.now_s += 0.96
        await connection.respond(b"", status="503 Service Unavailable")

    async with ScriptedServer.running(answer) as server, client(server, clock=clock) as sqs:
        with pytest.raises(QueueUnavailableError, match="503"):
            await sqs.send("x", timeout_s=1.0)
        assert asked == 1


async def test_a_server_that_is_not_there_is_told_quickly() -> None:
    """Both tries are refused."""
    async with client(f"http://127.0.0.1:{free_port()}") as sqs:
        with pytest.raises(QueueUnavailableError, match="ConnectError"):
            await sqs.send("x")


UNREADABLE: dict[str, tuple[bytes, Callable[[Sqs], Any], str]] = {
    "a send without an id": (b"{}", lambda sqs: sqs.send("x"), "MessageId"),
    "messages that are none": (b'{"Messages":[7]}', lambda sqs: sqs.receive(hidden_s=1), "unreadable"),
    "messages that are no list": (b'{"Messages":7}', lambda sqs: sqs.receive(hidden_s=1), "unreadable"),
    "a message without a body": (
        b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Attributes":{"SentTimestamp":"1"}}]}',
        lambda sqs: sqs.receive(hidden_s=1),
        "unreadable",
    ),
    "a time that is none": (
        b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"b","Attributes":{"SentTimestamp":"now"}}]}',
        lambda sqs: sqs.receive(hidden_s=1),
        "unreadable",
    ),
    "attributes that are none": (b'{"Attributes":[]}', lambda sqs: sqs.attributes(), "unreadable"),
}


@pytest.mark.parametrize(("answer", "call", "words"), UNREADABLE.values(), ids=UNREADABLE)
async def test_an_answer_that_sqs_cannot_have_given_is_an_unavailable_queue(
    answer: bytes, call: Callable[[Sqs], Any], words: str
) -> None:
    """JSON, and 200, and yet not SQS's."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.respond(answer)

    async with ScriptedServer.running(script) as server, client(server) as sqs:
        with pytest.raises(QueueUnavailableError, match=words):
            await call(sqs)


# --- connections -------------------------------------------------------------------------------------------


async def serving(connection: Connection) -> None:
    """Answer one request after the other."""
    while True:
        await connection.request()
        await connection.respond(SENT)


async def test_a_connection_is_kept_for_ten_seconds_and_no_longer() -> None:
    """Later SQS may have closed it without our noticing, for we were frozen."""
    clock = Clock()
    async with ScriptedServer.running(serving) as server, client(server, clock=clock) as sqs:
        for pause_s, connections in ((0, 1), (9.9, 1), (9.9, 1), (10, 2), (0, 2), (3600, 3)):
            clock.now_s += pause_s
            await sqs.send("x")
            assert server.connections == connections
        await until(lambda: server.open == 1, "the old ones are closed")


async def test_a_long_poll_is_not_cut_off_by_a_later_call() -> None:
    """It has waited for longer than a connection is kept, and is still being waited for."""
    clock = Clock()
    polls = 0
    polled, over = asyncio.Event(), asyncio.Event()

    async def answer(connection: Connection) -> None:
        nonlocal polls
        while True:
            _, body = await connection.request()
            if b"WaitTimeSeconds" in body:
                polls += 1
                polled.set()
                await over.wait()
                await connection.respond(b"{}")
            else:
                await connection.respond(SENT)

    async with ScriptedServer.running(answer) as server, client(server, clock=clock) as sqs:
        polling = asyncio.ensure_future(sqs.receive(hidden_s=60, wait_s=20))
        await polled.wait()
        clock.now_s += 15
        await sqs.send("x")
        over.set()
        assert await polling == []
        assert (polls, server.connections) == (1, 2)
        # Nobody uses it any more.
        await until(lambda: server.open == 1, "the first is closed")


async def test_calls_beside_each_other_have_a_connection_each_up_to_the_limit() -> None:
    """The others wait in line."""
    async with ScriptedServer.running(serving) as server, client(server, max_connections=3) as sqs:
        assert await asyncio.gather(*(sqs.send(str(number)) for number in range(12))) == ["m-1"] * 12
        assert server.connections == 3


async def test_a_call_that_is_given_up_leaves_nothing_behind() -> None:
    """No request under way, no connection, no task; the next call works."""
    asked = asyncio.Event()

    async def silent(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await connection.left()

    async with ScriptedServer.running(silent) as server, client(server) as sqs:
        sending = asyncio.ensure_future(sqs.send("x"))
        await asked.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: server.open == 0, "the connection is closed")
        server.script = serving
        assert await sqs.send("x") == "m-1"


# --- the signer --------------------------------------------------------------------------------------------

_FRESH = """
import asyncio, sys
from shared.errors import QueueUnavailableError
from shared.settings import AwsAccess
from shared.sqs import Sqs

def loaded():
    return [name for name in ("botocore", "boto3") if name in sys.modules]

sqs = Sqs("http://127.0.0.1:9/000000000000/q", AwsAccess("us-east-1", "id", "secret", None))
print(loaded())
try:
    asyncio.run(sqs.attributes())
except QueueUnavailableError:
    print(loaded())
"""


def test_no_process_pays_for_the_signer_before_it_needs_it() -> None:
    """It is half of what boto3 costs; boto3 itself is never loaded."""
    ran = subprocess.run(
        [sys.executable, "-c", _FRESH],
        cwd=ROOT,
        env=process_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout.splitlines() == ["[]", "['botocore']"]


async def test_the_signer_is_loaded_in_time_or_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time-out of the call holds; it goes on loading, once, until `settle`."""
    started = 0
    load, loop = sqs_module._load_signer, asyncio.get_running_loop()
    may_load = asyncio.Event()

    def slow(access: AwsAccess) -> Any:
        nonlocal started
        started += 1
        asyncio.run_coroutine_threadsafe(may_load.wait(), loop).result()
        return load(access)

    monkeypatch.setattr(sqs_module, "_load_signer", slow)
    async with ScriptedServer.running(serving) as server:
        sqs = Sqs(f"{server.url}/000000000000/q", NOBODY)
        await sqs.settle()
        for _ in range(2):
            with pytest.raises(QueueUnavailableError, match="was not answered within"):
                await sqs.send("x", timeout_s=0.05)
        waiting = asyncio.ensure_future(sqs.send("x"))
        await asyncio.sleep(0)
        waiting.cancel()
        settling = asyncio.ensure_future(sqs.settle())
        await asyncio.sleep(0)
        assert not settling.done()
        may_load.set()
        await settling
        assert await sqs.send("x") == "m-1"
        assert started == 1
        await sqs.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_signer_that_could_not_be_loaded_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory or of file handles, perhaps: the next call may find it well."""
    load, failures = sqs_module._load_signer, [MemoryError("no room")]

    def flaky(access: AwsAccess) -> Any:
        if failures:
            raise failures.pop()
        return load(access)

    monkeypatch.setattr(sqs_module, "_load_signer", flaky)
    async with ScriptedServer.running(serving) as server:
        sqs = Sqs(f"{server.url}/000000000000/q", NOBODY)
        with pytest.raises(MemoryError):
            await sqs.send("x")
        assert await sqs.send("x") == "m-1"
        await sqs.close()
