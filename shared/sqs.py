"""One queue at Amazon SQS: requests signed by botocore, sent over our own small transport.

boto3 would load for 0.14 s on this kind of machine and several times that in a small function, and it blocks; the
signer alone takes half of it, loads in a thread with the first request, and no function pays for it before. The
protocol is AWS JSON 1.0 ("Amazon SQS API Reference", "AWS JSON protocol").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from shared.errors import QueueUnavailableError
from shared.http_pool import PooledTransport
from shared.settings import AwsAccess

logger = logging.getLogger("tidemark.sqs")

#: What SQS takes: bytes a message (the body and its attributes), messages a batch, seconds a message can be hidden.
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_BATCH = 10
MAX_HIDDEN_S = 43_200
MAX_WAIT_S = 20
SEND_TIMEOUT_S = 1.0
CALL_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 0.4
#: A connection that has not been used for so long is not used again: SQS may have closed it while we were frozen.
_STALE_AFTER_S = 10.0
_PAUSE_S = 0.05

Sign = Callable[[str, bytes, Mapping[str, str]], Mapping[str, str]]


class Message(NamedTuple):
    """A received message. ``receipt`` stands for this receive of it, ``receives`` counts them; times are Unix ms."""

    id: str
    body: str
    receipt: str
    sent_ms: int
    receives: int
    group: str | None


class _Pool:
    """Warm connections that are retired together. Calls that are under way on them are left to end."""

    def __init__(self, endpoint: str, max_connections: int) -> None:
        self.client = httpx.AsyncClient(
            transport=PooledTransport(endpoint, max_connections=max_connections),
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
        )
        self._calls = 0
        self._retired = False

    @contextlib.asynccontextmanager
    async def in_use(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give the client for one call."""
        self._calls += 1
        try:
            yield self.client
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                await self.client.aclose()

    async def retire(self) -> None:
        """Close the connections as soon as nobody uses them."""
        self._retired = True
        if not self._calls:
            await self.client.aclose()


class Sqs:
    """One queue, from one event loop. ``clock`` is monotonic seconds.

    Every method raises QueueUnavailableError, when the queue does not answer in time or refuses.
    """

    def __init__(
        self, url: str, access: AwsAccess, *, max_connections: int = 20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        parts = urlsplit(url)
        self._endpoint = f"{parts.scheme}://{parts.netloc}/"
        self._access = access
        self._max_connections = max_connections
        self._clock = clock
        self._used_at = -_STALE_AFTER_S
        self._pool: _Pool | None = None
        self._loading: asyncio.Future[Sign] | None = None

    async def send(
        self,
        body: str,
        *,
        group: str | None = None,
        dedupe_id: str | None = None,
        delay_s: int | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> str:
        """Send a message and return its id. It may be sent twice: a FIFO queue takes one of a ``dedupe_id``."""
        given = {"MessageGroupId": group, "MessageDeduplicationId": dedupe_id, "DelaySeconds": delay_s}
        optional = {name: value for name, value in given.items() if value is not None}
        answer = await self._call("SendMessage", {"MessageBody": body, **optional}, timeout_s)
        return _text(answer, "MessageId")

    async def receive(self, *, most: int = MAX_BATCH, hidden_s: int, wait_s: int = 0) -> Sequence[Message]:
        """Receive up to ``most`` messages and hide them from others for ``hidden_s``; wait for the first one."""
        answer = await self._call(
            "ReceiveMessage",
            {
                "MaxNumberOfMessages": most,
                "VisibilityTimeout": hidden_s,
                "WaitTimeSeconds": wait_s,
                "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
            },
            CALL_TIMEOUT_S + wait_s,
        )
        try:
            return [_message(found) for found in answer.get("Messages") or ()]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise QueueUnavailableError(
                f"{self.name}: ReceiveMessage was answered with something unreadable"
            ) from error

    async def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages."""
        await self._each("DeleteMessageBatch", [{"ReceiptHandle": receipt} for receipt in receipts])

    async def hide(self, hidden_s: Mapping[str, int]) -> None:
        """Hide received messages, by their receipts, for so many seconds from now; 0 shows them at once."""
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt, seconds in hidden_s.items()]
        await self._each("ChangeMessageVisibilityBatch", entries)

    async def attributes(self, *, timeout_s: float = CALL_TIMEOUT_S) -> Mapping[str, str]:
        """Return what SQS says of the queue: its attributes, all of them text."""
        answer = await self._call("GetQueueAttributes", {"AttributeNames": ["All"]}, timeout_s)
        found = answer.get("Attributes")
        if not isinstance(found, dict):
            raise QueueUnavailableError(f"{self.name}: GetQueueAttributes was answered with something unreadable")
        return found

    async def settle(self) -> None:
        """Wait until the signer is loaded, if that has begun: whoever needed it may have given up since."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.client.aclose()

    async def _each(self, action: str, entries: Sequence[Mapping[str, Any]]) -> None:
        failed: list[Any] = []
        for start in range(0, len(entries), MAX_BATCH):
            batch = [{"Id": str(n), **entry} for n, entry in enumerate(entries[start : start + MAX_BATCH])]
            answer = await self._call(action, {"Entries": batch}, CALL_TIMEOUT_S)
            failed += answer.get("Failed") or ()
        if failed:
            code = failed[0].get("Code") if isinstance(failed[0], dict) else None
            raise QueueUnavailableError(
                f"{self.name}: {action} failed for {len(failed)} of {len(entries)} messages: {code}"
            )

    async def _call(self, action: str, arguments: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """Call an action; what fails on the way is tried once more, on a new connection, within the time."""
        body = json.dumps({"QueueUrl": self.url, **arguments}).encode()
        deadline = self._clock() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                sign = await self._signer()
                try:
                    return await self._once(sign, action, body)
                except QueueUnavailableError:
                    if self._clock() + _PAUSE_S >= deadline:
                        raise
                    await asyncio.sleep(_PAUSE_S)
                    return await self._once(sign, action, body)
        except TimeoutError:
            raise QueueUnavailableError(f"{self.name}: {action} was not answered within {timeout_s:g} s") from None

    async def _once(self, sign: Sign, action: str, body: bytes) -> Mapping[str, Any]:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        pool = await self._warm_pool()
        try:
            async with pool.in_use() as client:
                signed = dict(sign(self._endpoint, body, headers))
                answer = await client.post(self._endpoint, content=body, headers=signed)
        except httpx.HTTPError as error:
            # Whatever killed this connection may have killed the others that stood idle.
            await self._retire(pool)
            raise QueueUnavailableError(f"{self.name}: {action}: {type(error).__name__}: {error}") from error
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict) or answer.status_code != httpx.codes.OK:
            raise QueueUnavailableError(f"{self.name}: {action} was answered {answer.status_code}{_reason(told)}")
        return told

    async def _warm_pool(self) -> _Pool:
        stale = self._clock() - self._used_at >= _STALE_AFTER_S
        self._used_at = self._clock()
        if self._pool is not None and stale:
            await self._retire(self._pool)
        if self._pool is None:
            self._pool = _Pool(self._endpoint, self._max_connections)
        return self._pool

    async def _retire(self, pool: _Pool) -> None:
        if pool is self._pool:
            self._pool = None
        await pool.retire()

    async def _signer(self) -> Sign:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            # In a thread, so that the time-out of whoever waits holds.
            self._loading = asyncio.ensure_future(asyncio.to_thread(_load_signer, self._access))
        try:
            return await asyncio.shield(self._loading)
        except ImportError as error:
            raise QueueUnavailableError(f"what signs requests to SQS cannot be loaded: {error}") from error


class OnQueue:
    """What keeps things of one kind in a queue."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise QueueUnavailableError unless the queue answers."""
        await self._sqs.attributes(timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._sqs.settle()

    async def close(self) -> None:
        """Close every connection."""
        await self._sqs.close()


def _load_signer(access: AwsAccess) -> Sign:
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - see the module's docstring
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    auth = SigV4Auth(Credentials(access.key_id, access.secret, access.session_token), "sqs", access.region)

    def sign(url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
        request = AWSRequest("POST", url, headers=dict(headers), data=body)
        auth.add_auth(request)
        return dict(request.headers.items())

    return sign


def _message(found: Mapping[str, Any]) -> Message:
    attributes = found["Attributes"]
    return Message(
        id=found["MessageId"],
        body=found["Body"],
        receipt=found["ReceiptHandle"],
        sent_ms=int(attributes["SentTimestamp"]),
        receives=int(attributes["ApproximateReceiveCount"]),
        group=attributes.get("MessageGroupId"),
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise QueueUnavailableError(f"the queue's answer has no {name}")
    return value


def _reason(told: Any) -> str:
    """Return what SQS says of an error: its type, and its words."""
    if not isinstance(told, dict):
        return ""
    kind = str(told.get("__type", "")).rpartition("#")[2]
    return f": {kind} {told.get('message') or told.get('Message') or ''}".rstrip()
