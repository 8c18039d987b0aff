"""Following a stream from Python: reconnecting with the cursor, each event once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

# What httpx takes as a query value; its list type is invariant.
_Primitive = str | int | float | bool | None

_REMEMBERED = 10_000
_LONGEST_PAUSE_S = 15.0
_MOST_DOUBLINGS = 10
#: Silence for so many heartbeats means that the connection is dead.
_SILENT_HEARTBEATS = 3
_FIRST_HEARTBEAT_S = 15.0


class RefusedError(Exception):
    """The stream was refused, or ended for good; the message says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its event name (``message`` for an event of a topic), its data, and the cursor after it."""

    name: str
    data: dict[str, Any]
    cursor: str


class Follower:
    """Follows topics from a start, for as long as it is iterated."""

    def __init__(
        self,
        url: str,
        token: str,
        topics: list[str],
        *,
        start: str = "now",
        client: str | None = None,
        on_state: Callable[[str], None] = lambda _state: None,
    ) -> None:
        """``start`` is ``now``, ``earliest``, ``acked`` or a cursor; ``on_state`` hears of outages and their end."""
        self._url = f"{url}/events"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "text/event-stream",
            "Cache-Control": "no-store",
        }
        self._params: list[tuple[str, _Primitive]] = [("topic", topic) for topic in topics]
        if client is not None:
            self._params.append(("client", client))
        words = ("now", "earliest", "acked")
        self.cursor: str | None = None if start in words else start
        self._start = start
        self._on_state = on_state
        self._away = False
        self._retry_s = 2.0
        self._silence_s = _SILENT_HEARTBEATS * _FIRST_HEARTBEAT_S
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield frames, without events that were seen before. Raises RefusedError."""
        failures = 0
        async with httpx.AsyncClient(timeout=httpx.Timeout(5.0, read=None), trust_env=False) as client:
            while True:
                try:
                    async for frame in self._one_connection(client):
                        failures = 0
                        self._note(None)
                        if self._is_new(frame):
                            yield frame
                except (httpx.HTTPError, SSEError, TimeoutError, ValueError) as error:
                    self._note(error)
                pause_s = min(self._retry_s * 2**failures, _LONGEST_PAUSE_S)
                # Bounded: after hours away the power would be beyond any float.
                failures = min(failures + 1, _MOST_DOUBLINGS)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    def _note(self, error: Exception | None) -> None:
        """Say once that the stream is away, and once that it is back."""
        if error is not None and not self._away:
            self._on_state(f"{self._url} is away ({error or type(error).__name__}): trying again")
        elif error is None and self._away:
            self._on_state("connected again")
        self._away = error is not None

    async def _one_connection(self, client: httpx.AsyncClient) -> AsyncIterator[Frame]:
        params = [*self._params, ("last_event_id", self.cursor) if self.cursor else ("from", self._start)]
        async with client.stream("GET", self._url, params=params, headers=self._headers) as response:
            if httpx.codes.is_client_error(response.status_code):
                detail = _detail(await response.aread(), response.status_code)
                if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                    raise ValueError(detail)
                raise RefusedError(detail)
            response.raise_for_status()
            events = EventSource(response).aiter_sse()
            while True:
                async with asyncio.timeout(self._silence_s):
                    event = await anext(events, None)
                if event is None:
                    return
                if event.retry is not None:
                    self._retry_s = event.retry / 1000
                # The parser also reports a block without data (a lone retry field), which is no event.
                if event.data:
                    yield self._take(event)

    def _take(self, event: ServerSentEvent) -> Frame:
        if event.id:
            self.cursor = event.id
        data = json.loads(event.data)
        if event.event == "tidemark.hello":
            self._silence_s = _SILENT_HEARTBEATS * float(data["heartbeat_s"])
        if event.event == "tidemark.bye" and not data["reconnect"]:
            raise RefusedError(f"the stream has ended: {data['reason']}")
        return Frame(event.event, data, self.cursor or "")

    def _is_new(self, frame: Frame) -> bool:
        if frame.name != "message":
            return True
        key = (str(frame.data.get("source")), str(frame.data.get("id")))
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


def _detail(body: bytes, status: int) -> str:
    try:
        return f"{status}: {json.loads(body)['detail']}"
    except (ValueError, LookupError, TypeError):
        return f"refused with {status}"
