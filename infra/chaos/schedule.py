"""Which faults come when: a schedule that depends on nothing but the seed, and so can be had again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from infra.chaos.topology import KEYS, Kind, LinkSpec

T = TypeVar("T")

#: Faults on links, and kills, a second.
LINK_FAULTS_PER_S = 1.5
KILLS_PER_S = 0.4
_LASTS_S = (0.3, 2.5)
_DOWN_S = (0.1, 1.5)
#: Delays of a slow link: mostly bearable, now and then beyond every time-out.
_DELAY_S = ((0.02, 0.3), (0.3, 2.0))
#: Keys are fetched when the webhook starts, and every 2 s until it has some: so a fault of theirs comes with a start.
_KEYS_LAST_S = (1.5, 3.0)
_KEYS_KILL_AFTER_S = 0.1
_KEYS_DOWN_S = 0.1
_BOTH_LAST_S = (0.5, 2.0)
_GONE = (Kind.HANG, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.ERROR_500)


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault: where (the name of a link or of a process), what, from when, for how long.

    ``share`` of what passes the link is hit; ``delay_s`` is how late a slow link is. A process that is killed comes
    back after ``lasts_s``.
    """

    at_s: float
    lasts_s: float
    where: str
    kind: Kind
    share: float = 1.0
    delay_s: float = 0.0

    def __str__(self) -> str:
        more = "" if self.share == 1.0 else f", {self.share:.0%} of what passes"
        late = f" of {self.delay_s:.2f} s" if self.kind is Kind.LATENCY else ""
        return f"{self.at_s:5.2f} s  {self.where}: {self.kind.value}{late} for {self.lasts_s:.2f} s{more}"


def plan(seed: int, seconds: float, links: Sequence[LinkSpec], processes: Sequence[str]) -> list[Episode]:
    """Plan the faults of one seed, in the order in which they begin.

    Consecutive seeds go through all faults of all links like through a deck of cards, so that none is left out.
    """
    rng = random.Random(f"chaos {seed}")  # noqa: S311 - it has to be repeatable
    # A fault of the keys makes every push wait: it comes half as often as the others.
    cards = [(link, kind) for link in links for kind in link.kinds for _ in range(1 if link.target == KEYS else 2)]
    episodes: list[Episode] = []
    for link, kind in _hand(cards, "links", seed, round(seconds * LINK_FAULTS_PER_S)):
        episodes += _link_fault(link, kind, seconds, rng)
    for process in _hand(processes, "processes", seed, round(seconds * KILLS_PER_S)):
        down_s = rng.uniform(*_DOWN_S)
        episodes.append(Episode(_begin(rng, seconds, down_s), down_s, process, Kind.KILL))
    episodes += _both_away(seed, seconds, links, rng)
    return _one_death_at_a_time(sorted(episodes, key=lambda episode: episode.at_s))


def _hand(cards: Sequence[T], name: str, seed: int, count: int) -> list[T]:
    """Deal the cards of a seed from an endless row of shuffled decks."""
    hand: list[T] = []
    for number in range(seed * count, (seed + 1) * count if cards else 0):
        deck = list(cards)
        random.Random(f"{name} {number // len(cards)}").shuffle(deck)  # noqa: S311 - it has to be repeatable
        hand.append(deck[number % len(cards)])
    return hand


def _begin(rng: random.Random, seconds: float, lasts_s: float) -> float:
    return rng.uniform(0, max(0.0, seconds - lasts_s))


def _link_fault(link: LinkSpec, kind: Kind, seconds: float, rng: random.Random) -> list[Episode]:
    share = 1.0 if rng.random() < 0.5 else rng.uniform(0.2, 0.8)  # noqa: PLR2004
    delay_s = rng.uniform(*rng.choices(_DELAY_S, weights=(3, 1))[0])
    if link.target == KEYS:
        lasts_s = min(seconds, rng.uniform(*_KEYS_LAST_S))
        at_s = _begin(rng, seconds, lasts_s)
        return [
            Episode(at_s, lasts_s, link.name, kind),
            Episode(at_s + _KEYS_KILL_AFTER_S, _KEYS_DOWN_S, link.source, Kind.KILL),
        ]
    lasts_s = rng.uniform(*_LASTS_S)
    return [Episode(_begin(rng, seconds, lasts_s), lasts_s, link.name, kind, share, delay_s)]


def _both_away(seed: int, seconds: float, links: Sequence[LinkSpec], rng: random.Random) -> list[Episode]:
    """Take log and queue away from the webhook at once, with every third seed."""
    taken = [link for link in links if link.name in ("webhook->gateway", "webhook->queue")]
    if seed % 3 or not taken:
        return []
    lasts_s = rng.uniform(*_BOTH_LAST_S)
    at_s = _begin(rng, seconds, lasts_s)
    return [Episode(at_s, lasts_s, link.name, rng.choice(_GONE)) for link in taken]


def _one_death_at_a_time(episodes: Sequence[Episode]) -> list[Episode]:
    """Leave out the kills of a process that is dead already."""
    back_at: dict[str, float] = {}
    kept: list[Episode] = []
    for episode in episodes:
        if episode.kind is Kind.KILL:
            if episode.at_s < back_at.get(episode.where, 0.0):
                continue
            back_at[episode.where] = episode.at_s + episode.lasts_s
        kept.append(episode)
    return kept
