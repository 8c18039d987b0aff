"""One drill: pushes at a steady rate while what may be broken is broken, and a report of what became of them.

What a managed database lets us force is little: Upstash has no call that makes it fail over, so a failover is only
measured, if one happens while the drill runs. The live feed's connections are ours, and are dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from functions.drill.observer import Observer
from shared import error_reports
from shared.drill_report import DrillReport, Outcome, Sent, examine
from shared.envelope import Notification
from shared.errors import BadNumberError, TidemarkError
from shared.hub import Hub
from shared.intake import Intake
from shared.live import LiveFeed
from shared.log import From, Log
from shared.position import Position
from shared.push import rfc3339
from shared.start import Basis
from shared.start_queues import confirmation, delivery_queue

logger = logging.getLogger("tidemark.drill")

SECONDS, MOST_SECONDS = 30.0, 600.0
PER_S, MOST_PER_S = 5.0, 100.0
#: Queued pushes are delivered within seconds once the log is back; a breaker may wait for half a minute.
SETTLE_S = 60.0
#: An answer takes at most 3 s, by the contract.
_ANSWER_S = 2.8
_PAGE = 500
_POLL_S = 0.5
_NO_FAILOVER = "failover of the database: it has no call for one"


class Deps(NamedTuple):
    """What a drill needs: the way that every push goes, and the way that every event comes."""

    basis: Basis
    intake: Intake

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        intake = Intake(basis.log, basis.counts, queue=delivery_queue(basis), confirmation=confirmation(basis))
        return cls(basis, intake)


class Drill:
    """The handler. It keeps one event loop, and so its warm clients, over invocations."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._loop = asyncio.new_event_loop()

    def __call__(self, event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        """Run a drill and return its report, which is logged as well: as an error if a promise was broken.

        The event may say ``seconds`` (how long pushes are sent) and ``per_s``. Raises BadNumberError for others.
        """
        seconds = _number(event, "seconds", SECONDS, MOST_SECONDS)
        per_s = _number(event, "per_s", PER_S, MOST_PER_S)
        report = self._loop.run_until_complete(self._run(seconds, per_s))
        told = report.as_json()
        logger.log(logging.INFO if report.is_good else logging.ERROR, "drill", extra={"report": told})
        return told

    def close(self) -> None:
        """Close every connection and the event loop; the handler is of no use any more."""
        for client in (self._deps.intake, self._deps.basis.log):
            self._loop.run_until_complete(client.close())
        self._loop.close()

    async def _run(self, seconds: float, per_s: float) -> DrillReport:
        basis = self._deps.basis
        settings, log = basis.settings, basis.log
        live = LiveFeed(settings.redis_url, settings.redis_token, basis.keys)
        hub = Hub(log, live, reconcile_s=settings.reconcile_s)
        topic = f"drill:{secrets.token_hex(8)}"
        observer = Observer(hub, log, topic)
        hub.start()
        try:
            begin = await observer.open()
            fault_at = asyncio.get_running_loop().time() + seconds / 2
            drop = asyncio.get_running_loop().call_at(fault_at, live.suspect, topic)
            try:
                sent = await self._push(topic, seconds, per_s)
            finally:
                drop.cancel()
            accepted = {push.id for push in sent if push.outcome is not Outcome.REFUSED}
            held = await _settled(log, topic, begin, accepted)
            await hub.reconcile()
            followed = observer.followed(reconnects=hub.counters.feeds_opened - 1, meant=accepted)
        finally:
            observer.close()
            await hub.close()
            await log.settle()
            await self._deps.intake.settle()
            await error_reports.settle()
        return examine(
            sent,
            held,
            [followed],
            fault_at=fault_at,
            forced=["live feed: each connection dropped once"],
            only_measured=[_NO_FAILOVER],
        )

    async def _push(self, topic: str, seconds: float, per_s: float) -> list[Sent]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            pushes = []
            for number in range(max(1, int(seconds * per_s))):
                await asyncio.sleep(max(0.0, began + number / per_s - loop.time()))
                pushes.append(group.create_task(self._push_one(topic, number)))
        return [push.result() for push in pushes]

    async def _push_one(self, topic: str, number: int) -> Sent:
        loop = asyncio.get_running_loop()
        sent_at, id_, now = loop.time(), f"{topic}-{number}", rfc3339(datetime.now(UTC))
        note = Notification(
            subscription="projects/tidemark/subscriptions/drill",
            message_id=id_,
            published_at=now,
            email_address=topic,
            history_id=str(number),
            topic=topic,
        )
        try:
            taken = await self._deps.intake.take(note, received_at=now, until=sent_at + _ANSWER_S)
        except TidemarkError as error:
            logger.warning("a drill's push was refused", extra={"code": error.code, "reason": str(error)})
            return Sent(id_, sent_at, loop.time(), Outcome.REFUSED)
        if taken.position is None:
            return Sent(id_, sent_at, loop.time(), Outcome.QUEUED)
        outcome = Outcome.DUPLICATE if taken.duplicate else Outcome.PUBLISHED
        return Sent(id_, sent_at, loop.time(), outcome, str(taken.position))


async def _settled(log: Log, topic: str, begin: Position, accepted: set[str]) -> dict[str, list[str]]:
    """Wait until the log holds everything that was accepted, `SETTLE_S` at most; return what it holds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_S
    # What was read last, even if the log is away at the very end.
    held: dict[str, list[str]] = {}
    while True:
        try:
            held = await _held(log, topic, begin)
        except TidemarkError as error:
            logger.warning("a drill cannot read the log", extra={"code": error.code, "reason": str(error)})
        if accepted <= held.keys() or loop.time() >= until:
            return held
        await asyncio.sleep(_POLL_S)


async def _held(log: Log, topic: str, begin: Position) -> dict[str, list[str]]:
    """Return the positions of each message id that the log holds. Raises LogUnavailableError or LogDefectError."""
    held: dict[str, list[str]] = {}
    cursor, more = begin, True
    while more:
        (read,) = (await log.read({topic: From(cursor)}, limit=_PAGE)).topics
        for entry in read.entries:
            held.setdefault(json.loads(entry.envelope)["id"], []).append(str(entry.position))
        cursor, more = read.end, read.truncated
    return held


def _number(event: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = event.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise BadNumberError(f"{name} must be a number above 0, {most:g} at most")
    return float(value)
