"""`tidemark cost` as it is typed, and the page that shows what it prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli import main
from infra.cost.assumptions import Assumptions
from infra.cost.estimate import estimate
from infra.cost.page import printed_now, renewed, shown
from infra.cost.plot import curves, svg
from infra.cost.prices import known_prices

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()


def test_the_tables_show_every_way_and_what_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each assumption with its value, under the name of the option that changes it."""
    assert main(["cost", "--streams", "1000", "--hours", "24", "--pushes-per-user-day", "100"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +lambda +managed +fargate +cloudrun$", out, re.MULTILINE)
    assert re.search(r"^within 500 USD +no +yes +yes +yes$", out, re.MULTILINE)
    assert "Recommended: fargate, with fixed 250 MB at Upstash, 73.89 USD a month" in out
    assert re.search(r"^  --memory-per-stream-kib +40  ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 118


def test_json_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The same totals as the tables, with every line that they are made of."""
    assert main(["cost", "--json", "--streams", "300"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = estimate(Assumptions(streams=300))
    assert told["assumptions"]["streams"] == 300
    assert told["prices_dated"] == known_prices().dated.isoformat()
    assert {one["shape"]: one["usd"] for one in told["options"]} == {
        one.shape.name: one.usd for one in expected.options
    }
    assert told["recommended"]["shape"] == "fargate"
    for one in told["options"]:
        assert one["usd"] == round(sum(line["usd"] for line in one["lines"]), 2)
        assert any(not plan["misfits"] for plan in one["plans"])


def test_json_is_json_where_nothing_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """No amount without end; exit code 1, because nothing meets the load."""
    assert main(["cost", "--json", "--streams", "1000000"]) == 1
    told = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert told["recommended"] is None
    assert [one["usd"] for one in told["options"]] == [None] * 4


def test_tables_say_so_where_nothing_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """And why."""
    assert main(["cost", "--short", "--streams", "1000000"]) == 1
    out = capsys.readouterr().out
    assert "Nothing here meets the load." in out
    assert "even fixed 500 GB at Upstash is too small" in out
    assert re.search(r"^total +- +- +- +-$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--streams", "-1"], "argument --streams: must be a number, 0 or more"),
        (["--streams", "many"], "argument --streams: must be a number, 0 or more"),
        (["--streams", "nan"], "argument --streams: must be a number, 0 or more"),
        (["--streams", "1.5"], "argument --streams: must be a whole number from 0 to 10,000,000"),
        (["--hours", "25"], "argument --hours: must be a number from 0.1 to 24"),
        (["--cpu-use", "0"], "argument --cpu-use: must be a number from 0.05 to 1"),
        (["--plot", "cost.gif"], "argument --plot: must end in .png or .svg"),
        (["--colour", "blue"], "unrecognized arguments: --colour blue"),
    ],
)
def test_wrong_arguments_end_with_2_and_a_line_that_says_why(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error; nothing on standard output."""
    with pytest.raises(SystemExit) as ended:
        main(["cost", *arguments])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


def test_the_page_shows_what_the_command_prints() -> None:
    """Each block of it: run what stands after the $, and compare. `make pages` brings it up to date."""
    blocks = shown(PAGE)
    assert len(blocks) >= 3
    assert all(typed.startswith("cost") for typed, _ in blocks)
    for typed, said in blocks:
        assert printed_now(typed) == said, f"docs/scaling.md is behind: tidemark {typed}"


def test_a_page_is_brought_up_to_date() -> None:
    """Only what is printed changes."""
    page = "Before.\n```console\n$ tidemark cost\nold\n```\nBetween.\n```sh\nother\n```\n"
    assert renewed(page, lambda typed: f"{typed} prints\n") == page.replace("old", "cost prints")
    assert shown(page) == [("cost", "old\n")]


def test_the_page_has_the_drawing_that_the_command_makes() -> None:
    """`make pages` makes it anew."""
    assert (ROOT / "docs" / "scaling.svg").read_text() == svg(Assumptions(), known_prices())


def test_a_drawing_has_a_line_for_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As SVG it needs nothing that is not installed."""
    file = tmp_path / "cost.svg"
    assert main(["cost", "--short", "--plot", str(file)]) == 0
    drawn = file.read_text()
    assert all(f">{name}</text>" in drawn for name in ("lambda", "managed", "fargate", "cloudrun"))
    assert "500 USD" in drawn
    assert capsys.readouterr().out


def test_without_a_chromium_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1: it was asked for a picture, and there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["cost", "--plot", str(tmp_path / "cost.png")]) == 1
    captured = capsys.readouterr()
    assert "apt-get install chromium" in captured.err
    assert captured.out == ""


def test_curves_rise_and_break_where_the_load_is_not_met() -> None:
    """One stream an environment costs more with each; beyond the account's concurrency its line is broken."""
    drawn = curves(Assumptions(), known_prices())
    for line in drawn.values():
        amounts = [point.usd for point in line]
        assert amounts == sorted(amounts)
    assert all(point.fits == (point.streams <= 900) for point in drawn["lambda"])
    assert "stroke-dasharray" in svg(Assumptions(), known_prices())


def test_a_drawing_of_nothing_is_a_drawing() -> None:
    """Where no number of streams is met at all."""
    drawn = svg(Assumptions(pushes_per_user_day=1e6, stored_bytes_per_push=1e6), known_prices())
    assert drawn.startswith("<svg")
    assert "<path" not in drawn


def test_other_commands_do_not_load_what_this_one_needs() -> None:
    """Starting `tidemark` reads no prices."""
    code = (
        "import sys, infra.cli\n"
        "infra.cli._parser()\n"
        "print([name for name in sys.modules if name.startswith('infra.cost.') or name == 'tomllib'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == "['infra.cost.assumptions']"
