"""A client of a stack of these tests, which records all that it was told; what it recorded is judged by `faults`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any

from infra.chaos.origin import Origin
from infra.chaos.pushes import Key
from infra.chaos.stream_client import Connection, StreamClient
from shared.position import Position
from shared.tokens import mint
from tests.support.stack import BYPASS_SECRET, KID, TOKEN_KEY
from tests.support.waiting import stopped, until

_TOKEN_LIFE_S = 3600


class Recorder(StreamClient):
    """Follows ``topics`` through a port for as long as `run` runs, and comes back at once, as no browser would.

    ``naive`` makes the mistake that the contract warns of: it resumes from the position of the last event it got.
    ``obeys_retry`` makes it wait as a browser does. ``key`` signs its token (kid and secret). Each is a user of its
    own unless it is told whose it is; ``asks`` is what else stands in its query.
    """

    def __init__(
        self,
        port: int,
        topics: Sequence[str],
        *,
        name: str,
        naive: bool = False,
        obeys_retry: bool = False,
        cursor: str | None = None,
        start: str = "now",
        key: tuple[str, str] = (KID, TOKEN_KEY),
        user: str | None = None,
        asks: Mapping[str, str] | None = None,
    ) -> None:
        kid, secret = key
        super().__init__(
            Origin.local(port),
            topics,
            name=name,
            token=mint(user or name, topics, kid=kid, key=secret, ttl_s=_TOKEN_LIFE_S, now=time.time()),
            # It comes back as often as the test's faults make it.
            headers={"X-Tidemark-Bypass": BYPASS_SECRET},
            obeys_retry=obeys_retry,
            cursor=cursor,
            start=start,
            asks=asks,
        )
        self.naive = naive

    def took(self, envelope: Mapping[str, Any]) -> None:
        """Resume from the last event, if it knows no better."""
        if self.naive:
            self.cursor = envelope["position"]


@contextlib.asynccontextmanager
async def following(*recorders: Recorder, greeted_in_s: float = 20.0) -> AsyncIterator[None]:
    """Run recorders; they follow when this begins, and have stopped when it ends."""
    tasks = [asyncio.ensure_future(recorder.run()) for recorder in recorders]
    try:
        await until(
            lambda: all(r.greeted for r in recorders) or any(task.done() for task in tasks),
            "every client has been greeted",
            timeout_s=greeted_in_s,
        )
        yield
    finally:
        errors = await stopped(tasks, ", ".join(recorder.name for recorder in recorders))
    for error in errors:
        # What a recorder could not read is a fault of the stream.
        if error is not None:
            raise error


def missing(recorder: Recorder, expected: Collection[Key]) -> set[Key]:
    """Give the events that a client should have and has not."""
    return set(expected) - recorder.events.keys()


def faults(recorder: Recorder, expected: Mapping[Key, str | None]) -> list[str]:
    """Judge what a client recorded; an empty list means that every promise was kept.

    ``expected`` are the events of its topics, each with the position that its push was answered with, if any.
    """
    found: list[str] = []
    name = recorder.name
    lost = missing(recorder, expected)
    if lost:
        found.append(f"{name}: {len(lost)} of {len(expected)} events never came, such as {min(lost)}")
    surplus = recorder.events.keys() - expected.keys()
    if surplus:
        found.append(f"{name}: {len(surplus)} events came that nobody sent, such as {min(surplus)}")
    found += [f"{name}: was told of a gap, {gap}" for gap in recorder.gaps]
    found += _faults_of_positions(recorder, expected)
    if not recorder.naive:
        found += _faults_of_cursors(recorder)
    return found


def _faults_of_positions(recorder: Recorder, expected: Mapping[Key, str | None]) -> list[str]:
    found: list[str] = []
    for number, connection in enumerate(recorder.connections):
        newest: dict[str, Position] = {}
        for arrival in connection.arrivals:
            if arrival.topic not in recorder.topics:
                found.append(f"{recorder.name}: an event of {arrival.topic}, which it does not follow")
            if arrival.topic in newest and arrival.position <= newest[arrival.topic]:
                found.append(
                    f"{recorder.name}: connection {number}: {arrival.position} after {newest[arrival.topic]}"
                )
            newest[arrival.topic] = arrival.position
            first = recorder.events[arrival.key].position
            if arrival.position != first:
                found.append(f"{recorder.name}: {arrival.key} stands at {first} and again at {arrival.position}")
            answered = expected.get(arrival.key)
            if answered is not None and answered != str(arrival.position):
                found.append(f"{recorder.name}: {arrival.key} came at {arrival.position}, acknowledged at {answered}")
    return found


def _faults_of_cursors(recorder: Recorder) -> list[str]:
    """Find ids that go back, on one connection or from one to the next, and a hello that is not the first id."""
    found: list[str] = []
    last: Position | None = None
    for number, connection in enumerate(recorder.connections):
        for cursor in connection.ids:
            if last is not None and cursor < last:
                found.append(f"{recorder.name}: connection {number}: the id went back from {last} to {cursor}")
            last = cursor
        if connection.hello is not None:
            greeted = connection.hello["cursor"]
            if greeted != str(connection.ids[0]):
                found.append(f"{recorder.name}: hello says {greeted}, its id {connection.ids[0]}")
            if connection.cursor not in (None, greeted) and not connection.gaps:
                found.append(f"{recorder.name}: resumed from {connection.cursor}, was greeted with {greeted}")
    return found


def resumes(recorders: Iterable[Recorder]) -> list[Connection]:
    """Give every connection that resumed from a cursor and was greeted."""
    return [c for recorder in recorders for c in recorder.connections if c.cursor is not None and c.hello is not None]


def live_resumes(recorders: Sequence[Recorder]) -> int:
    """Count the resumes during which an event of their topics was appended: after the request, before the greeting.

    A position tells when Redis appended it, by the clock of this machine.
    """
    appended: dict[str, set[int]] = {}
    for recorder in recorders:
        for arrival in recorder.events.values():
            appended.setdefault(arrival.topic, set()).add(arrival.position.ms)
    count = 0
    for recorder in recorders:
        times = [ms for topic in recorder.topics for ms in appended.get(topic, ())]
        for connection in resumes([recorder]):
            began, greeted = connection.asked_at * 1000, connection.hello_at * 1000
            count += any(began < ms < greeted for ms in times)
    return count
