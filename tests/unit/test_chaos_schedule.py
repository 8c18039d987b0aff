"""Schedules of faults: had again by their seed, even over seeds, and never two deaths of one process at once."""

from __future__ import annotations

from collections import Counter

import pytest

from infra.chaos.schedule import KILLS_PER_S, LINK_FAULTS_PER_S, plan
from infra.chaos.topology import CLIENT, KEYS, LINKS, PROCESSES, Kind

SECONDS = 12.0
SEEDS = range(1, 101)


def test_a_seed_gives_the_same_schedule_again_and_another_one_gives_another() -> None:
    assert plan(17, SECONDS, LINKS, PROCESSES) == plan(17, SECONDS, LINKS, PROCESSES)
    assert plan(17, SECONDS, LINKS, PROCESSES) != plan(18, SECONDS, LINKS, PROCESSES)


@pytest.mark.parametrize("seconds", [3.0, SECONDS])
def test_faults_begin_in_order_and_those_of_links_are_over_in_time(seconds: float) -> None:
    """A process may need longer to come back: that is waited for."""
    for seed in SEEDS:
        episodes = plan(seed, seconds, LINKS, PROCESSES)
        begins = [episode.at_s for episode in episodes]
        assert begins == sorted(begins)
        assert begins[0] >= 0
        assert all(e.at_s + e.lasts_s <= seconds for e in episodes if e.kind is not Kind.KILL)


def test_every_fault_of_every_link_and_every_process_has_its_turns_over_a_hundred_seeds() -> None:
    turns = Counter((e.where, e.kind) for seed in SEEDS for e in plan(seed, SECONDS, LINKS, PROCESSES))
    for link in LINKS:
        for kind in link.kinds:
            assert turns[link.name, kind] >= (5 if link.target == KEYS else 10), (link.name, kind)
    for process in PROCESSES:
        assert turns[process, Kind.KILL] >= 50, process
    assert sum(turns.values()) >= len(SEEDS) * SECONDS * (LINK_FAULTS_PER_S + KILLS_PER_S) * 0.9


def test_a_process_is_not_killed_while_it_is_dead() -> None:
    for seed in SEEDS:
        back_at: dict[str, float] = {}
        for episode in plan(seed, SECONDS, LINKS, PROCESSES):
            if episode.kind is Kind.KILL:
                assert episode.at_s >= back_at.get(episode.where, 0.0)
                back_at[episode.where] = episode.at_s + episode.lasts_s


def test_with_every_third_seed_log_and_queue_are_away_at_once() -> None:
    """Then 503 is the answer, and nothing that was acknowledged may be missing afterwards."""
    for seed in (3, 6, 9):
        episodes = plan(seed, SECONDS, LINKS, PROCESSES)
        at_s = Counter(e.at_s for e in episodes if e.where in ("webhook->gateway", "webhook->queue"))
        assert 2 in at_s.values()


def test_where_only_clients_can_be_hindered_nothing_else_is_planned() -> None:
    outside = [link for link in LINKS if link.from_client]
    for seed in SEEDS:
        episodes = plan(seed, SECONDS, outside, ())
        assert episodes
        assert {episode.where.partition("->")[0] for episode in episodes} == {CLIENT}


def test_an_episode_says_what_it_is() -> None:
    """As it stands in the report of a seed that failed."""
    told = [str(episode) for seed in SEEDS for episode in plan(seed, SECONDS, LINKS, PROCESSES)]
    assert any("webhook->gateway: readonly for" in line for line in told)
    assert any("% of what passes" in line for line in told)
    assert any("redis: SIGKILL for" in line for line in told)
