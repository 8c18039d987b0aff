"""The judge: from every push with its answers, and all that every client saw, which promises were not kept. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.chaos.pushes import Attempt, Key, Push
from infra.chaos.stream_client import Arrival, Connection, Resume
from shared.delivery import DeadLetter, Delivery, Event, UnreadableDeliveryError
from shared.position import Position

#: What a webhook may answer while the parts behind it fail. The keys of pushes may be away: 401, and 429 of those.
ALLOWED = frozenset({200, 401, 429, 503})
_OK = 200
_WORDS = frozenset({"published", "duplicate", "queued"})
_REJECTED = frozenset({"rejected"})
#: How much sooner a client may note its end than the death is noted, s.
_CLOCKS_S = 0.1


class Witness(Protocol):
    """A client, as far as it is judged."""

    name: str
    topics: tuple[str, ...]
    connections: list[Connection]
    events: dict[Key, Arrival]
    resume: Resume


@dataclass(frozen=True, slots=True)
class Death:
    """A process that was killed, and when, in Unix seconds."""

    process: str
    at: float


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a run."""

    pushes: Sequence[Push]
    attempts: Mapping[str, Sequence[Attempt]]
    witnesses: Sequence[Witness]
    log: Sequence[Arrival]
    """What the log held in the end, in its own order."""
    buried: Sequence[DeadLetter] | None = None
    """The dead letters in the end, None if they cannot be seen."""
    deaths: Sequence[Death] = ()
    hurt: Collection[str] = ()
    """The clients' connections that a fault has hit."""
    strange: Sequence[str] = ()
    """What else should never have been said or done."""


@dataclass(slots=True)
class Verdict:
    """What went wrong, in words; every list is empty if every promise was kept."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there."""
    doubled: list[str] = field(default_factory=list)
    """One message at two positions."""
    disordered: list[str] = field(default_factory=list)
    """Positions or ids that went back."""
    false_gaps: list[str] = field(default_factory=list)
    """A gap was told, although nothing was trimmed, wiped or failed over."""
    missing_gaps: list[str] = field(default_factory=list)
    """A client's cursor lies beyond an event that it never got, and no gap was told."""
    unacknowledged: list[str] = field(default_factory=list)
    """Sent until the end, and never acknowledged."""
    ended: list[str] = field(default_factory=list)
    """A stream ended although nothing had hit its own socket or its process."""
    strange: list[str] = field(default_factory=list)
    """Answers and events that no fault explains."""

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return not any(found for _, found in self.found())

    def found(self) -> Iterator[tuple[str, list[str]]]:
        """Give each kind of failure by its name, with what was found."""
        for name in Verdict.__dataclass_fields__:
            yield name.replace("_", " "), getattr(self, name)


def judge(record: Record) -> Verdict:
    """Judge a run."""
    verdict = Verdict(strange=list(record.strange))
    acknowledged = _judge_answers(record, verdict)
    _judge_graves(record, acknowledged, verdict)
    acknowledged = {key: push for key, push in acknowledged.items() if push.readable}
    _judge_log(record, acknowledged, verdict)
    _judge_positions(record, verdict)
    held = {arrival.key: arrival.position for arrival in record.log}
    for witness in record.witnesses:
        _judge_completeness(witness, acknowledged, held, verdict)
        for connection in witness.connections:
            _judge_order(witness, connection, verdict)
            _judge_greeting(witness, connection, verdict)
            _judge_end(connection, record, verdict)
    return verdict


def missing(witness: Witness, acknowledged: Mapping[Key, Push]) -> list[Push]:
    """Give the acknowledged pushes that a client should have got and has not, whatever gaps it was told of."""
    return [push for key, push in acknowledged.items() if push.topic in witness.topics and key not in witness.events]


def _judge_answers(record: Record, verdict: Verdict) -> dict[Key, Push]:
    """Look at the answers of pushes; return what was acknowledged."""
    acknowledged: dict[Key, Push] = {}
    for push in record.pushes:
        attempts = record.attempts.get(push.message_id, ())
        if any(attempt.acknowledged for attempt in attempts):
            acknowledged[push.key] = push
        elif attempts:
            last = attempts[-1]
            said = last.failure or f"{last.status} {last.said}"
            verdict.unacknowledged.append(f"{push.message_id}: {len(attempts)} attempts, the last one: {said}")
        for attempt in attempts:
            if attempt.injected or attempt.status is None:
                continue
            words = _WORDS if push.readable else _REJECTED
            unknown = attempt.status == _OK and attempt.said is not None and attempt.word not in words
            if attempt.status not in ALLOWED or unknown:
                verdict.strange.append(
                    f"push {push.message_id} was answered with {attempt.status} {_short(attempt.said)}"
                )
    return acknowledged


def _judge_graves(record: Record, acknowledged: Mapping[Key, Push], verdict: Verdict) -> None:
    """See that among the dead letters there is what can never be read, and nothing else."""
    if record.buried is None:
        return
    buried = {_message_id(letter): letter for letter in record.buried}
    unreadable = {push.message_id for push in record.pushes if not push.readable}
    verdict.lost += [
        f"{push.message_id} was rejected and is not among the dead letters"
        for push in acknowledged.values()
        if not push.readable and push.message_id not in buried
    ]
    verdict.strange += [
        f"{message_id or letter.message} is a dead letter, {letter.death.value}: {letter.reason}"
        for message_id, letter in buried.items()
        if message_id not in unreadable
    ]


def _message_id(letter: DeadLetter) -> str:
    """Return the message id of the push in a dead letter; empty if it has none."""
    try:
        content = Delivery.parse(letter.message).content
    except UnreadableDeliveryError:
        return ""
    if isinstance(content, Event):
        return content.message_id
    return str(json.loads(content.head)["message"]["messageId"])


def _judge_log(record: Record, acknowledged: Mapping[Key, Push], verdict: Verdict) -> None:
    """Look at what the log holds."""
    held = {arrival.key for arrival in record.log}
    verdict.lost += [
        f"{push.message_id} of {push.topic} was acknowledged and is not in the log"
        for key, push in acknowledged.items()
        if key not in held
    ]
    sent = {push.key for push in record.pushes}
    verdict.strange += [f"{key} is in the log, and nobody sent it" for key in sorted(held - sent)]
    newest: dict[str, Position] = {}
    for arrival in record.log:
        if arrival.topic in newest and arrival.position <= newest[arrival.topic]:
            verdict.disordered.append(f"the log has {arrival.position} after {newest[arrival.topic]}")
        newest[arrival.topic] = arrival.position


def _judge_positions(record: Record, verdict: Verdict) -> None:
    """See that each message has one position, wherever it was told."""
    told: defaultdict[Key, dict[str, str]] = defaultdict(dict)
    for key, position, who in _told(record):
        told[key].setdefault(position, who)
    for key, positions in told.items():
        if len(positions) > 1:
            where = ", ".join(f"{position} ({who})" for position, who in positions.items())
            verdict.doubled.append(f"{key[1]} stands at {where}")


def _told(record: Record) -> Iterator[tuple[Key, str, str]]:
    """Give every position that was told of a message, and by whom."""
    for arrival in record.log:
        yield arrival.key, str(arrival.position), "the log"
    for push in record.pushes:
        for attempt in record.attempts.get(push.message_id, ()):
            if attempt.position is not None:
                yield push.key, attempt.position, "an answer"
    for witness in record.witnesses:
        for connection in witness.connections:
            for arrival in connection.arrivals:
                yield arrival.key, str(arrival.position), witness.name


def _judge_completeness(
    witness: Witness, acknowledged: Mapping[Key, Push], held: Mapping[Key, Position], verdict: Verdict
) -> None:
    """Look for what a client did not get, and for gaps that it was told of."""
    gaps = [gap for connection in witness.connections for gap in connection.gaps]
    verdict.false_gaps += [f"{witness.name}: {gap}" for gap in gaps]
    ids = [cursor for connection in witness.connections for cursor in connection.ids]
    cursor = max(ids, default=Position(0, 0))
    for push in missing(witness, acknowledged):
        position = held.get(push.key)
        if position is None or _is_told(push.topic, position, gaps):
            continue  # lost for everybody, which was said above; or told
        what = f"{witness.name}: {push.message_id} of {push.topic} at {position}"
        if position <= cursor:
            verdict.missing_gaps.append(f"{what} never came, and the cursor is at {cursor}")
        else:
            verdict.lost.append(f"{what} never came")


def _is_told(topic: str, position: Position, gaps: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        gap["topic"] == topic and Position.parse(gap["after"]) < position <= Position.parse(gap["resume"])
        for gap in gaps
    )


def _judge_order(witness: Witness, connection: Connection, verdict: Verdict) -> None:
    """See that positions rise and ids do not go back."""
    newest: dict[str, Position] = {}
    resumed = Position.parse(connection.cursor) if connection.cursor is not None else None
    for arrival in connection.arrivals:
        if arrival.topic not in witness.topics:
            verdict.strange.append(f"{connection.name}: an event of {arrival.topic}, which it does not follow")
        if arrival.topic in newest and arrival.position <= newest[arrival.topic]:
            verdict.disordered.append(f"{connection.name}: {arrival.position} after {newest[arrival.topic]}")
        newest[arrival.topic] = arrival.position
        if resumed is not None and arrival.position <= resumed:
            verdict.disordered.append(f"{connection.name}: {arrival.position}, though it resumed from {resumed}")
    last = resumed
    for cursor in connection.ids:
        if last is not None and cursor < last:
            verdict.disordered.append(f"{connection.name}: the id went back from {last} to {cursor}")
        last = cursor


def _judge_greeting(witness: Witness, connection: Connection, verdict: Verdict) -> None:
    """See that a stream begins where it was told to."""
    if connection.hello is None:
        return
    greeted = connection.hello["cursor"]
    if greeted != str(connection.ids[0]):
        verdict.strange.append(f"{connection.name}: hello says {greeted}, its id {connection.ids[0]}")
    if witness.resume is Resume.ACKED or connection.cursor in (None, greeted) or connection.gaps:
        return
    verdict.strange.append(f"{connection.name}: resumed from {connection.cursor}, was greeted with {greeted}")


def _judge_end(connection: Connection, record: Record, verdict: Verdict) -> None:
    """See that a stream which was open ended for a reason."""
    if connection.hello is None or not connection.closed or connection.left or connection.name in record.hurt:
        return
    if any(bye["reason"] == "rotate" for bye in connection.byes):
        return
    killed = [death.at for death in record.deaths if death.process == "stream"]
    # However late it heard of it: nothing that was asked of a process outlives it.
    if any(connection.asked_at <= at <= connection.ended_at + _CLOCKS_S for at in killed):
        return
    said = f", after {connection.byes}" if connection.byes else ""
    verdict.ended.append(
        f"{connection.name}: open for {connection.ended_at - connection.hello_at:.2f} s, then: "
        f"{connection.end.value}{said}"
    )


def _short(said: Any) -> str:
    text = str(said)
    return text if len(text) < 200 else f"{text[:200]}…"  # noqa: PLR2004
