"""The Runtime API of one execution environment: the emulator's, made to be like Lambda's where it is not.

- The deadline of an invocation is the time at which the function's time-out is over; the emulator's is a constant.
- A request's ``timeEpoch`` is in milliseconds; the emulator's is in seconds.
- An answer to a function URL may leave its cookies out; the emulator insists on a list.
- An answer is acknowledged when all of it has come; the emulator's acknowledgement comes with the first byte, and the
  runtime would ask for the next invocation while it still streams.

Besides, an environment can be kept from getting invocations, so that a test decides which one serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from infra.chaos.http_messages import Head, chunks, read_body, read_head
from infra.local.loopback import HOST, shut

_LIMIT_BYTES = 1 << 22
_NEXT = "/2018-06-01/runtime/invocation/next"
_RESPONSE = "/response"
_DEADLINE = "lambda-runtime-deadline-ms"
_ANSWERED_WITHIN_S = 5.0
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


@dataclass(slots=True)
class Invocation:
    """One request to the function. Times are Unix seconds; ``ended_at`` is when the whole answer had come."""

    began_at: float
    deadline_at: float
    ended_at: float | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class RuntimeApi:
    """Listens on `address`, which is what AWS_LAMBDA_RUNTIME_API is to be. ``timeout_s`` is the function's."""

    def __init__(self, function: str, emulator_port: int, *, timeout_s: float) -> None:
        self.address = ""
        self.invocations: list[Invocation] = []
        self.init_errors: list[bytes] = []
        """What the runtime said that it could not start for."""
        self.started = False
        """Whether the runtime has ever asked for an invocation."""
        self.open = asyncio.Event()
        """While it is not set, no invocation comes to this environment."""
        self.open.set()
        self._timeout_s = timeout_s
        self._prefix = f"/.rt/{function}"
        self._emulator_port = emulator_port
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, function: str, emulator_port: int, *, timeout_s: float) -> AsyncIterator[RuntimeApi]:
        """Listen on any port; at the end every connection is closed."""
        api = cls(function, emulator_port, timeout_s=timeout_s)
        server = await asyncio.start_server(api._accept, HOST, 0, limit=_LIMIT_BYTES)
        api.address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield api
        finally:
            server.close()
            for task in list(api._serving):
                task.cancel()
            await asyncio.gather(*api._serving, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            # The environment has gone, or the test ends.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while True:
                    await self._serve(reader, writer)
        finally:
            await shut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if head.target.endswith(_NEXT):
            await self._next(head, reader, writer)
        elif head.target.endswith(_RESPONSE):
            await self._respond(head, reader, writer)
        else:
            body = await read_body(reader, head, is_answer=False)
            if head.target.endswith("/init/error"):
                # The emulator would give it as the answer to somebody else's invocation.
                self.init_errors.append(body)
                writer.write(_ACCEPTED)
            else:
                answered, rest = await self._exchange(self._forwarded(head) + body)
                writer.write(answered.raw + rest)
                if head.target.endswith("/error"):
                    self._end()
            await writer.drain()

    async def _next(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give the runtime its next invocation, if it is still there when one comes."""
        self.started = True
        work = asyncio.ensure_future(self._next_invocation(self._forwarded(head)))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise EOFError
            answer = work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        writer.write(answer)
        await writer.drain()

    async def _next_invocation(self, request: bytes) -> bytes:
        await self.open.wait()
        answered, body = await self._exchange(request)
        now = time.time()
        invocation = Invocation(now, now + self._timeout_s)
        self.invocations.append(invocation)
        event = json.loads(body)
        context = event.get("requestContext", {}) if isinstance(event, dict) else {}
        if "timeEpoch" in context:
            context["timeEpoch"] = int(now * 1000)
            event["rawQueryString"] = event["rawQueryString"] or ""
            body = json.dumps(event).encode()
        fields = {
            **answered.fields,
            _DEADLINE: str(int(invocation.deadline_at * 1000)),
            "content-length": str(len(body)),
            "content-type": "application/json",
        }
        lines = [answered.first, *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def _respond(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass an answer on as it comes, acknowledge it at its end; break it off if the emulator does."""
        answers, requests = await asyncio.open_connection(HOST, self._emulator_port, limit=_LIMIT_BYTES)
        sending = asyncio.ensure_future(self._send_on(head, reader, requests))
        answered = asyncio.Event()
        broken = asyncio.ensure_future(_until_closed(answers, answered))
        try:
            await asyncio.wait([sending, broken], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                # The adapter ends when its answer fails, and has nothing left to send once it is acknowledged.
                writer.write(_ACCEPTED)
                raise EOFError
            sending.result()
            # Closed earlier, the connection would take along what the emulator has not looked at yet.
            async with asyncio.timeout(_ANSWERED_WITHIN_S):
                await answered.wait()
        finally:
            for task in (sending, broken):
                task.cancel()
            await asyncio.gather(sending, broken, return_exceptions=True)
            requests.close()
            self._end()
        writer.write(_ACCEPTED)
        await writer.drain()

    async def _send_on(self, head: Head, reader: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        if not head.is_chunked:
            body = _completed(await read_body(reader, head, is_answer=False))
            requests.write(self._forwarded(head, content_length=len(body)) + body)
            await requests.drain()
            return
        requests.write(self._forwarded(head))
        async for raw, _ in chunks(reader):
            # Each chunk has to reach the emulator by itself: it takes the first one for the answer's head.
            requests.write(raw)
            await requests.drain()

    def _end(self) -> None:
        invocation = self.invocations[-1]
        invocation.ended_at = time.time()
        invocation.ended.set()

    async def _exchange(self, request: bytes) -> tuple[Head, bytes]:
        answers, requests = await asyncio.open_connection(HOST, self._emulator_port, limit=_LIMIT_BYTES)
        try:
            requests.write(request)
            answered = await read_head(answers)
            return answered, await read_body(answers, answered, is_answer=True)
        finally:
            requests.close()

    def _forwarded(self, head: Head, **changed: object) -> bytes:
        """Write a head as the emulator is to get it. Underscores in the names of changed fields stand for hyphens."""
        method, target, version = head.first.split(" ")
        fields = head.fields | {name.replace("_", "-"): str(value) for name, value in changed.items()}
        lines = [f"{method} {self._prefix}{target} {version}", *(f"{name}: {text}" for name, text in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _until_closed(answers: asyncio.StreamReader, answered: asyncio.Event) -> None:
    """Wait until the emulator closes a connection, whatever it says on it."""
    with contextlib.suppress(OSError, EOFError):
        await read_head(answers)
        answered.set()
        await answers.read(-1)


def _completed(answer: bytes) -> bytes:
    """Give an answer to a function URL the list of cookies that the emulator insists on."""
    told = json.loads(answer)
    return json.dumps({"cookies": [], **told}).encode() if isinstance(told, dict) and "statusCode" in told else answer
