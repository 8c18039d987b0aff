"""The judge of the chaos harness against planted faults: each is found, under its own name, and nothing else is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from infra.chaos.checker import Death, Record, Verdict, judge
from infra.chaos.event_stream import Frame
from infra.chaos.origin import Origin
from infra.chaos.pushes import SOURCE, Attempt, Push
from infra.chaos.stream_client import Arrival, Connection, End, Resume, StreamClient
from shared.delivery import DeadLetter, Delivery, Event, RawPush
from shared.delivery import Death as Cause
from shared.position import Position

ANN, BEN = "ann@example.com", "ben@example.com"
TOPICS = (f"gmail:{ANN}", f"gmail:{BEN}")
START = "1000-0"
TIME = "2026-11-24T12:00:00Z"


def position(number: int) -> str:
    """Give the position of the push of this number, from 0."""
    return f"{1001 + number}-0"


def pushes(count: int = 6) -> list[Push]:
    """Give pushes to two mailboxes in turn."""
    return [Push(ANN if number % 2 == 0 else BEN, number, f"m{number}") for number in range(count)]


def published(number: int, *, word: str = "published") -> Attempt:
    return Attempt(0.0, 0.01, 200, {"status": word, "id": position(number)})


@dataclass
class World:
    """A run in which every promise was kept, until a test breaks one."""

    pushes: list[Push] = field(default_factory=pushes)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    log: list[Arrival] = field(default_factory=list)
    frames: list[list[tuple[str, dict[str, Any]]]] = field(default_factory=list)
    """What the client was told, connection by connection: pairs of an id and an event."""
    resume: Resume = Resume.HEADER
    buried: list[DeadLetter] | None = None
    deaths: list[Death] = field(default_factory=list)
    hurt: set[str] = field(default_factory=set)
    ends: list[End] = field(default_factory=list)
    client: StreamClient = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = {push.message_id: [published(number)] for number, push in enumerate(self.pushes)}
        self.log = [arrival(push, position(number)) for number, push in enumerate(self.pushes)]
        told = [event(push, position(number)) for number, push in enumerate(self.pushes)]
        self.frames = [told[:3], told[3:]]

    def judge(self) -> Verdict:
        """Let the client read what it was told, and judge it all."""
        self.client = StreamClient(Origin.local(1), TOPICS, name="client", token="t", resume=self.resume)
        for number, frames in enumerate(self.frames):
            connection = Connection(self.client.cursor, 0.0, f"client-{number}")
            self.client.connections.append(connection)
            cursor = self.client.cursor or START
            self._frame(connection, cursor, "tidemark.hello", {"cursor": cursor, "heartbeat_s": 15})
            for identity, data in frames:
                name = data.pop("frame", "message")
                self._frame(connection, identity, name, data)
            connection.end = self.ends[number] if number < len(self.ends) else End.LEFT
            connection.ended_at = 100.0
        record = Record(
            pushes=self.pushes,
            attempts=self.attempts,
            witnesses=[self.client],
            log=self.log,
            buried=self.buried,
            deaths=self.deaths,
            hurt=self.hurt,
        )
        return judge(record)

    def _frame(self, connection: Connection, identity: str, name: str, data: dict[str, Any]) -> None:
        self.client._take(connection, Frame(name, json.dumps(data), identity, None))


def arrival(push: Push, at: str) -> Arrival:
    return Arrival(push.key, push.topic, Position.parse(at), 0.0)


def event(push: Push, at: str) -> tuple[str, dict[str, Any]]:
    return at, {"source": SOURCE, "id": push.message_id, "topic": push.topic, "position": at}


def gap(after: str, resume: str, *, identity: str) -> tuple[str, dict[str, Any]]:
    return identity, {"frame": "tidemark.gap", "topic": TOPICS[0], "after": after, "resume": resume}


def found(verdict: Verdict) -> set[str]:
    """Give the names of what was found."""
    return {name for name, what in verdict.found() if what}


def test_a_run_that_kept_every_promise_has_no_fault() -> None:
    verdict = World().judge()
    assert found(verdict) == set()
    assert verdict.good


def test_an_event_may_come_again_on_the_next_connection_of_a_client_whose_cursor_trails() -> None:
    """The client resumes from its last acknowledgement, and drops what it has seen."""
    world = World(resume=Resume.ACKED)
    told = [event(push, position(number)) for number, push in enumerate(world.pushes)]
    world.frames = [told[:4], told[2:]]
    assert "doubled" not in found(world.judge())


def test_a_redelivery_that_is_known_again_is_no_fault() -> None:
    world = World()
    world.attempts["m1"] += [published(1, word="duplicate"), Attempt(0.0, 3.0, None, failure="reset")]
    world.attempts["m2"].insert(0, Attempt(0.0, 0.1, 503, {"code": "log_unavailable"}))
    world.attempts["m3"] = [Attempt(0.0, 0.1, 200, {"status": "queued"})]
    assert found(world.judge()) == set()


def _drop(world: World) -> None:
    del world.frames[0][1]


def _drop_the_last(world: World) -> None:
    del world.frames[1][-1]


def _drop_with_a_gap(world: World) -> None:
    del world.frames[1][1]  # m4, of Ann
    world.frames[1].insert(0, gap(position(2), position(4), identity=position(3)))


def _drop_with_the_wrong_gap(world: World) -> None:
    del world.frames[1][1]
    world.frames[1].insert(0, gap(position(2), position(3), identity=position(3)))


def _tell_a_gap(world: World) -> None:
    world.frames[1].insert(0, gap(position(2), position(2), identity=position(2)))


def _forget(world: World) -> None:
    del world.log[2]
    del world.frames[0][2]


def _double_in_the_log(world: World) -> None:
    world.log.append(arrival(world.pushes[1], position(9)))


def _double_in_an_answer(world: World) -> None:
    world.attempts["m1"].append(published(8))


def _double_on_the_stream(world: World) -> None:
    world.frames[1].append(event(world.pushes[1], position(9)))


def _repeat_on_the_stream(world: World) -> None:
    world.frames[0].insert(1, world.frames[0][0])


def _swap(world: World) -> None:
    first = world.frames[0]
    first[0], first[2] = (first[0][0], first[2][1]), (first[2][0], first[0][1])


def _go_back_with_the_id(world: World) -> None:
    world.frames[0][2] = (position(0), world.frames[0][2][1])


def _go_back_on_the_next_connection(world: World) -> None:
    world.frames[1].insert(0, event(world.pushes[0], position(0)))


def _swap_in_the_log(world: World) -> None:
    world.log[0], world.log[2] = world.log[2], world.log[0]


def _never_acknowledge(world: World) -> None:
    world.attempts["m5"] = [Attempt(0.0, 0.1, 503)] * 9
    del world.log[5]
    del world.frames[1][2]


def _answer_with_a_500(world: World) -> None:
    world.attempts["m1"].insert(0, Attempt(0.0, 0.1, 500, {"code": "internal"}))


def _answer_with_another_word(world: World) -> None:
    world.attempts["m1"].append(Attempt(0.0, 0.1, 200, {"status": "rejected"}))


def _send_what_nobody_sent(world: World) -> None:
    world.log.append(arrival(Push(ANN, 1, "stranger"), position(9)))


def _follow_too_much(world: World) -> None:
    world.frames[1].append(event(replace(world.pushes[0], mailbox="cleo@example.com"), position(9)))
    world.log[0] = arrival(world.pushes[0], position(0))


def _end_for_no_reason(world: World) -> None:
    world.ends = [End.BROKEN]


PLANTED: Sequence[tuple[Callable[[World], None], set[str]]] = [
    (_drop, {"missing gaps"}),
    (_drop_the_last, {"lost"}),
    (_drop_with_a_gap, {"false gaps"}),
    (_drop_with_the_wrong_gap, {"false gaps", "missing gaps"}),
    (_tell_a_gap, {"false gaps"}),
    (_forget, {"lost"}),
    (_double_in_the_log, {"doubled"}),
    (_double_in_an_answer, {"doubled"}),
    (_double_on_the_stream, {"doubled"}),
    (_repeat_on_the_stream, {"disordered"}),
    (_swap, {"disordered"}),
    (_go_back_with_the_id, {"disordered"}),
    (_go_back_on_the_next_connection, {"disordered"}),
    (_swap_in_the_log, {"disordered"}),
    (_never_acknowledge, {"unacknowledged"}),
    (_answer_with_a_500, {"strange"}),
    (_answer_with_another_word, {"strange"}),
    (_send_what_nobody_sent, {"strange"}),
    (_follow_too_much, {"doubled", "strange"}),
    (_end_for_no_reason, {"ended"}),
]


@pytest.mark.parametrize(("plant", "names"), PLANTED, ids=[plant.__name__.strip("_") for plant, _ in PLANTED])
def test_a_planted_fault_is_found_under_its_name(plant: Callable[[World], None], names: set[str]) -> None:
    world = World()
    plant(world)
    verdict = world.judge()
    assert found(verdict) == names
    assert not verdict.good


@pytest.mark.parametrize("answered", [500, 429, 400])
def test_what_a_fault_has_answered_in_the_webhooks_place_is_not_the_webhooks_doing(answered: int) -> None:
    world = World()
    world.attempts["m1"].insert(0, Attempt(0.0, 0.1, answered, None, injected=True))
    assert found(world.judge()) == set()


def test_a_stream_may_end_when_its_socket_was_hit_or_its_process_was_killed_or_its_time_was_over() -> None:
    hit = World(ends=[End.BROKEN], hurt={"client-0"})
    assert found(hit.judge()) == set()
    killed = World(ends=[End.BROKEN], deaths=[Death("stream", 99.5)])
    assert found(killed.judge()) == set()
    rotated = World(ends=[End.BODY])
    rotated.frames[0].append((position(2), {"frame": "tidemark.bye", "reason": "rotate", "reconnect": True}))
    assert found(rotated.judge()) == set()


@pytest.mark.parametrize(
    "world",
    [
        World(ends=[End.BROKEN], hurt={"client-1"}),
        World(ends=[End.BROKEN], deaths=[Death("gateway", 99.9)]),
        World(ends=[End.BROKEN], deaths=[Death("stream", -1.0)]),
        World(ends=[End.BROKEN], deaths=[Death("stream", 101.0)]),
        World(ends=[End.SILENCE]),
    ],
    ids=["another one was hit", "another process died", "it died before", "it died afterwards", "it fell silent"],
)
def test_no_other_end_of_a_stream_is_excused(world: World) -> None:
    assert found(world.judge()) == {"ended"}


def test_a_greeting_that_differs_from_the_cursor_is_strange() -> None:
    world = World()
    verdict = world.judge()
    assert found(verdict) == set()
    connection = world.client.connections[1]
    assert connection.hello is not None
    connection.hello["cursor"] = "9999-0"
    connection.ids[0] = Position(9999, 0)
    record = Record(world.pushes, world.attempts, [world.client], world.log)
    assert "strange" in found(judge(record))


# --- what can never be read


def _unreadable_world() -> World:
    world = World()
    unreadable = Push(ANN, 9, "m9", readable=False)
    world.pushes.append(unreadable)
    world.attempts["m9"] = [Attempt(0.0, 0.1, 200, {"status": "rejected", "reason": "not JSON"})]
    return world


def _letter(content: Event | RawPush) -> DeadLetter:
    return DeadLetter(Cause.POISON, "not JSON", TIME, TIME, 1, Delivery(content, TIME).to_json())


def _raw(push: Push) -> RawPush:
    body = json.dumps(push.body()).encode()
    return RawPush(len(body), "hash", body, {})


def test_what_was_rejected_must_be_among_the_dead_letters() -> None:
    world = _unreadable_world()
    world.buried = [_letter(_raw(world.pushes[-1]))]
    assert found(world.judge()) == set()
    world.buried = []
    assert found(world.judge()) == {"lost"}
    world.buried = None  # where they cannot be seen, nothing can be said
    assert found(world.judge()) == set()


def test_what_can_be_read_must_not_be_among_them() -> None:
    world = World(buried=[_letter(Event(TOPICS[0], "{}", "s", "m0"))])
    assert found(world.judge()) == {"strange"}
    world = World(buried=[DeadLetter(Cause.POISON, "r", TIME, TIME, 1, "what is this")])
    assert found(world.judge()) == {"strange"}


def test_an_unreadable_push_that_was_published_is_strange() -> None:
    world = _unreadable_world()
    world.attempts["m9"] = [published(9)]
    world.buried = [_letter(_raw(world.pushes[-1]))]
    assert "strange" in found(world.judge())
    assert base64.b64decode(world.pushes[-1].body()["message"]["data"]) == b"no JSON"
