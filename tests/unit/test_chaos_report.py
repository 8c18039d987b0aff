"""What the chaos harness prints, its exit code, and its command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.chaos.arguments import read
from infra.chaos.checker import Verdict
from infra.chaos.deployment import left_out
from infra.chaos.report import again, details, exit_code, line, summary
from infra.chaos.run import Result
from infra.chaos.schedule import Episode
from infra.chaos.topology import Kind

KEYS = {"TIDEMARK_TOKEN_KEYS": f"k1:{'s' * 32}"}


def good(seed: int = 1, **fired: int) -> Result:
    return Result(
        seed,
        Verdict(),
        fired=Counter({("client->webhook", Kind[name]): count for name, count in fired.items()}),
        kinds=frozenset({Kind.HANG, Kind.KILL}),
        schedule=[Episode(1.0, 0.5, "client->webhook", Kind.HANG, share=0.25)],
        pushes=10,
        words=Counter(published=9, queued=1),
        refused=3,
        connections=7,
        healed_s=2.5,
    )


def bad(seed: int = 2) -> Result:
    result = good(seed)
    result.verdict.lost += [f"m{number}" for number in range(30)]
    result.verdict.false_gaps.append("a gap")
    result.logs = "/somewhere"
    return result


def test_a_seed_that_kept_its_promises_has_one_line() -> None:
    assert line(good(HANG=4)) == (
        "seed 1: ok     all there 2.5 s after the last fault; 10 pushes (9 published, 1 queued; 3 attempts refused), "
        "7 connections, 1 faults hit 4 times"
    )


def test_a_seed_that_failed_says_what_and_where_to_look_and_how_to_run_it_again() -> None:
    assert "seed 2: FAILED 30 lost, 1 false gaps;" in line(bad())
    told = list(details(bad(), again(2, 12.0, deployed=False)))
    assert "  lost (30):" in told
    assert "    m0" in told
    assert "    … and 10 more" in told
    assert any("client->webhook: hang for 0.50 s, 25% of what passes" in text for text in told)
    assert told[-2:] == [
        "  logs and data of its processes: /somewhere",
        '  run it again: make chaos ARGS="--seeds 2 --seconds 12"',
    ]
    assert "--url" in again(2, 12.0, deployed=True)


def test_what_was_there_too_late_is_a_failure() -> None:
    late = good()
    late.healed_s = None
    assert "FAILED not all was there in time" in line(late)
    assert exit_code([late], 0) == (1, "")


def test_the_summary_adds_up_over_seeds() -> None:
    told = list(summary([good(HANG=4), bad(), good(3, HANG=1, KILL=2)]))
    assert told[0].startswith("3 seeds, 1 failed: 30 lost, 0 doubled, 0 disordered, 1 false gaps,")
    assert "failed: 2" in told
    assert "  client->webhook    hang 5, SIGKILL 2" in told
    assert told[-1] == "faults that hit, by kind: hang 5, SIGKILL 2"


def test_the_exit_code_tells_of_failures_and_of_faults_that_hit_too_seldom() -> None:
    assert exit_code([good(HANG=4, KILL=4)], 0) == (0, "")
    assert exit_code([good(HANG=4, KILL=4)], 4) == (0, "")
    assert exit_code([good(HANG=4), good(HANG=1, KILL=4)], 5) == (1, "hit fewer than 5 times: SIGKILL 4")
    assert exit_code([good(), bad()], 0) == (1, "")


# --- the command line


def test_seeds_are_numbers_and_ranges(tmp_path: Path) -> None:
    assert read([], {}).seeds == list(range(1, 101))
    options = read(["--seeds", "17,3-5", "--seconds", "6", "--jobs", "2", "--require-fired", "50"], {})
    assert (options.seeds, options.seconds, options.jobs, options.require_fired) == ([17, 3, 4, 5], 6.0, 2, 50)
    assert options.target is None
    assert list(tmp_path.iterdir()) == []


def test_a_deployment_has_one_origin_or_three(tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path)]
    target = read(["--url", "https://a.example", "--replay-url", "https://r.example", *data], KEYS).target
    assert target is not None
    assert (target.webhook, target.stream, target.replay) == (
        "https://a.example",
        "https://a.example",
        "https://r.example",
    )
    assert (target.kid, target.bypass) == ("k1", None)
    assert target.push_authorization()["Authorization"].startswith("Bearer ey")
    assert "s" * 32 not in repr(target)


def test_the_token_of_a_push_may_come_from_a_command(tmp_path: Path) -> None:
    given = ["--url", "http://a.example", "--data-dir", str(tmp_path), "--push-token-command", "echo 'a token'"]
    target = read(given, {**KEYS, "TIDEMARK_BYPASS_SECRET": "b" * 32}).target
    assert target is not None
    assert target.push_authorization() == {"Authorization": "Bearer a token"}
    assert target.bypass == "b" * 32
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--seeds", "a"], "must be seeds such as"),
        (["--seeds", "5-1"], "holds no seed"),
        (["--seconds", "0"], "must be a number above 0"),
        (["--seconds", "soon"], "must be a number above 0"),
        (["--jobs", "-1"], "must be a whole number"),
        (["--url", "ftp://a.example"], "must be an http(s) URL"),
        (["--url", "http://a.example/path"], "must be an http(s) URL"),
        (["--stream-url", "http://a.example"], "a deployment needs"),
    ],
)
def test_a_wrong_command_line_is_refused(
    given: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read([*given, "--data-dir", str(tmp_path)], KEYS)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_it_is_said_what_is_not_done_to_a_deployment() -> None:
    told = "\n".join(left_out())
    assert "webhook->gateway" in told
    assert "SIGKILL of redis" in told
    assert "client->" not in told
