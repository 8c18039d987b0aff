"""What a drill finds out, from its pushes, what the log holds in the end, and what streams were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any


class Outcome(StrEnum):
    """What became of a push at once."""

    PUBLISHED = "published"
    DUPLICATE = "duplicate"
    """It was in the log already: an earlier try was not heard of."""
    QUEUED = "queued"
    REFUSED = "refused"
    """Neither the log nor the queue took it. Pub/Sub would send it again."""


_ACCEPTED = (Outcome.PUBLISHED, Outcome.DUPLICATE, Outcome.QUEUED)
_IN_LOG = (Outcome.PUBLISHED, Outcome.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Sent:
    """One push: its message id, when it was sent and answered (seconds, on one clock), and its position if told."""

    id: str
    sent_at: float
    answered_at: float
    outcome: Outcome
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """What one stream heard: message ids in the order of their arrival, how often it had to reconnect, gaps told.

    ``meant`` are the message ids that were sent to its topics.
    """

    ids: Sequence[str]
    reconnects: int
    gaps: int
    meant: Collection[str]


@dataclass(frozen=True, slots=True)
class DrillReport:
    """The report of a drill. Times are seconds."""

    forced: tuple[str, ...]
    """What was done to the deployment."""
    only_measured: tuple[str, ...]
    """What could not be forced, and why: of these the report knows only what happened by itself."""
    pushes: int
    published: int
    queued: int
    refused: int
    first_success_s: float | None
    """From the fault to the first publish that succeeded again; 0 if none failed, None if none succeeded."""
    longest_silence_s: float
    """The longest time without a publish that succeeded."""
    forgotten: int
    """Pushes that had a position which the log does not hold any more."""
    restored: int
    """Of the forgotten ones, those that stand in the log again."""
    lost: int
    """Accepted, and not in the log in the end."""
    doubled: int
    """Messages that stand in the log more than once."""
    streams: int
    reconnects: int
    gaps_told: int
    missed: int
    """Events of the log that a stream which was told of no gap never got."""
    seen_twice: int
    """Envelopes that came to a stream more than once: it drops them by `source` and `id`."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled or missed, and publishing went on."""
        return not (self.lost or self.doubled or self.missed) and self.first_success_s is not None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def examine(
    sent: Sequence[Sent],
    held: Mapping[str, Sequence[str]],
    followed: Sequence[Followed],
    *,
    fault_at: float | None,
    forced: Iterable[str] = (),
    only_measured: Iterable[str] = (),
) -> DrillReport:
    """Judge a drill. ``held`` are the positions at which the log holds each message id in the end.

    ``fault_at`` is when something was broken, on the clock of the pushes; None if nothing was.
    """
    outcomes = Counter(push.outcome for push in sent)
    accepted = {push.id for push in sent if push.outcome in _ACCEPTED}
    forgotten = {push.id for push in sent if push.position is not None and push.position not in held.get(push.id, ())}
    whole = [stream for stream in followed if not stream.gaps]
    return DrillReport(
        forced=tuple(forced),
        only_measured=tuple(only_measured),
        pushes=len(sent),
        published=sum(outcomes[outcome] for outcome in _IN_LOG),
        queued=outcomes[Outcome.QUEUED],
        refused=outcomes[Outcome.REFUSED],
        first_success_s=_first_success_s(sent, fault_at),
        longest_silence_s=_longest_silence_s(sent),
        forgotten=len(forgotten),
        restored=sum(id_ in held for id_ in forgotten),
        lost=len(accepted - held.keys()),
        doubled=sum(len(positions) > 1 for positions in held.values()),
        streams=len(followed),
        reconnects=sum(stream.reconnects for stream in followed),
        gaps_told=sum(stream.gaps for stream in followed),
        missed=sum(len((held.keys() & set(stream.meant)) - set(stream.ids)) for stream in whole),
        seen_twice=sum(len(stream.ids) - len(set(stream.ids)) for stream in followed),
    )


def _first_success_s(sent: Sequence[Sent], fault_at: float | None) -> float | None:
    if fault_at is None:
        return 0.0
    after = sorted((push for push in sent if push.sent_at >= fault_at), key=lambda push: push.answered_at)
    failed = False
    for push in after:
        if push.outcome in _IN_LOG:
            if failed:
                return round(push.answered_at - fault_at, 3)
        else:
            failed = True
    return None if failed else 0.0


def _longest_silence_s(sent: Sequence[Sent]) -> float:
    if not sent:
        return 0.0
    times = sorted(push.answered_at for push in sent if push.outcome in _IN_LOG)
    times = [min(push.sent_at for push in sent), *times, max(push.answered_at for push in sent)]
    return round(max(later - earlier for earlier, later in pairwise(times)), 3)
