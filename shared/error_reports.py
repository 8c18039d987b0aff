"""Defects, reported to Sentry: what is logged as an error, without a name, an address or a token in it.

Nothing of Sentry is imported before the first error, and nothing of it runs in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from shared.masking import mask_all

if TYPE_CHECKING:
    from sentry_sdk.types import Event

#: An answer waits so long for its report at most; on Lambda, what is not sent by then waits for the next request.
SEND_S = 1.0
_MINUTE_S = 60
_MOST_A_MINUTE = 20
# What else an event may hold is about the request, the machine or the process's arguments.
_KEPT = (
    "contexts", "environment", "event_id", "exception", "extra", "level", "logentry", "logger", "platform", "release",
    "sdk", "tags", "timestamp",
)  # fmt: skip


class ErrorReports(logging.Handler):
    """Sends each error that is logged, 20 a minute at most: a defect that every request meets is known by then.

    ``clock`` is monotonic seconds.
    """

    def __init__(
        self, dsn: str, *, environment: str, function: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(logging.ERROR)
        self._dsn = dsn
        self._environment = environment
        self._function = function
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="error-reports")
        self._latest: Future[None] | None = None
        self._forward: logging.Handler | None = None
        self._minute, self._sent = float("-inf"), 0

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record over; returns at once."""
        now = self._clock()
        if now - self._minute >= _MINUTE_S:
            self._minute, self._sent = now, 0
        self._sent += 1
        if self._sent <= _MOST_A_MINUTE:
            self._latest = self._worker.submit(self._send, record)

    async def settle(self) -> None:
        """Wait until all that was handed over is sent, for `SEND_S` at most. Never raises."""
        latest, self._latest = self._latest, None
        if latest is not None:
            await asyncio.wait([asyncio.wrap_future(latest)], timeout=SEND_S)

    def _send(self, record: logging.LogRecord) -> None:
        import sentry_sdk  # noqa: PLC0415 - a tenth of a second that no cold start should pay

        try:
            if self._forward is None:
                self._forward = self._start()
            self._forward.emit(record)
            sentry_sdk.flush(timeout=SEND_S)
        except Exception:  # noqa: BLE001 - a report that fails must not be one more error
            self.handleError(record)

    def _start(self) -> logging.Handler:
        import sentry_sdk  # noqa: PLC0415
        from sentry_sdk.integrations.dedupe import DedupeIntegration  # noqa: PLC0415
        from sentry_sdk.integrations.logging import EventHandler  # noqa: PLC0415

        sentry_sdk.init(
            self._dsn,
            environment=self._environment,
            # No others: they add requests, addresses and arguments to events, and patch what they know.
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[DedupeIntegration()],
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            before_send=_scrub,
        )
        sentry_sdk.get_global_scope().set_tag("function", self._function)
        return EventHandler()


def _scrub(event: Event, _hint: dict[str, Any]) -> Event:
    scrubbed: Event = mask_all({name: value for name, value in event.items() if name in _KEPT})
    return scrubbed


async def settle() -> None:
    """Wait until this process's reports are sent, as `ErrorReports.settle` does."""
    for handler in logging.getLogger("tidemark").handlers:
        if isinstance(handler, ErrorReports):
            await handler.settle()
