"""The parts of the benchmarks that decide: what counts as lost, what a percentile is, what the report says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.findings import Findings, Line, Panel
from bench.ledger import Ledger
from bench.plot import number, svg
from bench.process_tree import cpu_s, pss_kib
from bench.report import percentile
from bench.subject import Audience
from bench.summary import markdown

MACHINE = {"date": "2026-11-25T12:00:00+00:00", "cores": "2"}


def frame(message_id: int) -> bytes:
    return f'id: 1-0\ndata: {{"specversion":"1.0","id":"{message_id}"}}'.encode()


def test_an_own_mailbox_has_one_follower_and_a_broadcast_has_all() -> None:
    own, broadcast = Audience.each_its_own(3), Audience.one_for_all(3)
    assert [own.mailbox(stream) for stream in range(3)] == [0, 1, 2]
    assert (own.followers(1), broadcast.followers(0)) == (1, 3)
    assert {broadcast.mailbox(stream) for stream in range(3)} == {0}
    assert [Audience(7, 3).followers(mailbox) for mailbox in range(3)] == [3, 2, 2]


def test_a_turn_is_complete_when_each_follower_has_each_event_once_and_each_push_is_answered() -> None:
    audience = Audience.one_for_all(2)
    ledger = Ledger(100, [0, 0], follows=audience.mailbox, followers=audience.followers)
    for message_id in (100, 101):
        ledger.answer(message_id - 100, None)
        ledger.arrive(frame(message_id), 0)
    ledger.arrive(frame(100), 1)
    assert (ledger.lost, ledger.complete.is_set()) == (1, False)
    ledger.arrive(frame(100), 1)
    assert (ledger.lost, ledger.doubled, ledger.complete.is_set()) == (1, 1, False)
    ledger.arrive(frame(101), 1)
    assert (ledger.lost, ledger.unanswered, ledger.complete.is_set()) == (0, 0, True)
    assert len(ledger.latencies_ms()) == 4


def test_an_event_that_comes_to_the_wrong_stream_or_from_another_turn_is_a_fault() -> None:
    ledger = Ledger(100, [0])
    ledger.arrive(frame(100), 1)
    ledger.arrive(frame(99), 0)
    assert [fault.partition(":")[0] for fault in ledger.faults] == [
        "an event of mailbox 0 came to stream 1",
        "an event that was not sent in this turn",
    ]
    assert ledger.lost == 1


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile([5, 1, 4, 2, 3], percent) for percent in (1, 50, 80, 81, 100)] == [1, 3, 4, 5, 5]


def test_memory_and_cpu_of_a_process_can_be_told() -> None:
    own = int(Path("/proc/self/stat").read_text("ascii").split()[0])
    assert pss_kib(own) > 1000
    assert cpu_s(own, alone=True) > 0


@pytest.mark.parametrize(
    ("value", "told"), [(0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (3.0, "3"), (float("nan"), "-")]
)
def test_the_plot_writes_as_many_digits_as_a_reader_needs(value: float, told: str) -> None:
    assert number(value) == told


def test_the_plot_is_a_well_formed_picture_with_every_value_in_it() -> None:
    panels = [Panel("Time <ms>", {"1 & 2": {"ours": [1.5, 4.25], "Nchan": [0]}}), Panel("None", {})]
    document, height = svg("All & more", panels)
    texts = [text.text for text in ET.fromstring(document).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert {"All & more", "Time <ms>", "1 & 2", "1.50 / 4.25", "0", "ours", "Nchan"} <= set(texts)
    assert "floor" not in texts
    assert height > 100


def test_the_report_has_a_line_for_all_that_was_measured_and_says_what_was_not() -> None:
    memory = Findings(
        "memory",
        "Memory",
        "How.",
        MACHINE,
        ["| a table |"],
        [Line("memory, KiB", {"ours": 23.44, "Nchan": 13.0}, 1, "at most 40 KiB", met=True)],
        [Panel("Memory", {"all": {"ours": [23.44]}})],
        ["Upstash Realtime is not measured: this machine lacks node."],
    )
    report = markdown([memory])
    assert "| memory, KiB | - | - | 23.4 | - | 13.0 | at most 40 KiB | yes |" in report
    assert "Upstash Realtime is not measured: this machine lacks node." in report
    assert "Not measured: latency." in report
    assert "- cores: 2" in report
