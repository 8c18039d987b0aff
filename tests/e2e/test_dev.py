"""`tidemark dev`: nothing outlives it, what dies comes back, and what it cannot do it says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.local.mail import fresh_message_id, push_body
from shared.tokens import mint
from tests.support.dev_process import TIDEMARK, DevProcess, alive
from tests.support.gateway import NO_TLS, ROOT, eventually

BOX = "ann@example.com"
COMMAND_TIMEOUT_S = 20.0
RECOVERY_S = 20.0


def _push(dev: DevProcess) -> str:
    """Push one message; return its id. It is acknowledged."""
    message_id = fresh_message_id()
    body = push_body(BOX, 4711, message_id)
    headers = dev.data_dir.push_signer().authorization()
    answer = httpx.post(f"{dev.url}/push", json=body, headers=headers, timeout=10, verify=NO_TLS, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "published"
    return message_id


def _held(dev: DevProcess) -> list[str]:
    """Give the ids of the messages that can be replayed."""
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    token = mint("ann", [f"gmail:{BOX}"], kid=kid, key=key, ttl_s=600, now=time.time())
    answer = httpx.get(
        f"{dev.url}/replay?after=earliest",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
        verify=NO_TLS,
        trust_env=False,
    )
    page: dict[str, Any] = answer.raise_for_status().json()
    assert page["gaps"] == []
    return [event["id"] for event in page["events"]]


def _tidemark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TIDEMARK, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """Give one running stack to the tests that leave it as well as it was."""
    with DevProcess.running(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_told_to_stop_it_ends_every_child_and_a_restart_still_has_the_log(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It ends with status 0 and leaves no process; what was pushed before can be replayed from the next one."""
    with DevProcess.running(tmp_path / "data") as first:
        pushed = [_push(first) for _ in range(3)]
        children = first.children()
        assert len(children) >= 3
        first.signal(number)
        assert first.ended() == 0
        assert alive(children) == []
        assert first.data_dir.running() is None
    with DevProcess.running(tmp_path / "data") as second:
        assert _held(second) == pushed


def test_told_to_stop_while_it_starts_it_leaves_no_child(tmp_path: Path) -> None:
    """The first child runs, the last one does not yet: the end is as clean as later."""
    with DevProcess.running(tmp_path / "data", ready=False) as dev:
        children: set[psutil.Process] = set()

        def started() -> bool:
            children.update(dev.children())
            return bool(children)

        def ended() -> bool:
            return not started() or dev.process.poll() is not None

        eventually(started, "the first child runs", COMMAND_TIMEOUT_S)
        dev.signal(signal.SIGTERM)
        eventually(ended, "it ends", COMMAND_TIMEOUT_S)
        assert dev.ended() == 0
        assert alive(list(children)) == []


def test_killed_it_takes_its_children_along_and_a_restart_still_has_the_log(tmp_path: Path) -> None:
    """SIGKILL leaves it no time to stop anything: the kernel ends the children. What was acknowledged is kept."""
    with DevProcess.running(tmp_path / "data") as first:
        pushed = [_push(first) for _ in range(3)]
        children = first.children()
        assert len(children) >= 3
        first.signal(signal.SIGKILL)
        first.ended()
        eventually(lambda: not alive(children), "no child is left", 5)
    with DevProcess.running(tmp_path / "data") as second:
        assert _held(second) == pushed


@pytest.mark.parametrize("name", ["redis", "gateway", "origin"])
def test_a_child_that_is_killed_comes_back_and_the_log_with_it(dev: DevProcess, name: str) -> None:
    """The others are left alone, and pushes are taken again."""
    before, held = dev.processes, _held(dev)
    pushed = _push(dev)
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: dev.processes[name] != before[name] and dev.healthy(), f"{name} is back", RECOVERY_S)
    assert {other: pid for other, pid in dev.processes.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    last = _push(dev)
    assert _held(dev) == [*held, pushed, last]


def test_a_port_in_use_is_an_error_that_names_it(dev: DevProcess, tmp_path: Path) -> None:
    said = _tidemark("dev", "--port", str(dev.port), "--data-dir", str(tmp_path / "other"))
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.startswith(f"tidemark dev: port {dev.port} cannot be listened on")
    assert said.stderr.count("\n") == 1
    assert dev.healthy()


def test_a_data_directory_in_use_is_an_error_that_names_it(dev: DevProcess) -> None:
    said = _tidemark("dev", "--port", "0", "--data-dir", str(dev.data_dir.path))
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr == f"tidemark dev: another tidemark dev runs on {dev.data_dir.path}\n"
    assert dev.healthy()
    assert dev.data_dir.running() is not None


def test_a_data_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = _tidemark("dev", "--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert said.returncode == 1
    assert said.stdout == ""
    assert str(tmp_path / "file" / "data") in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--port", "many"), ("--port", "70000"), ("--push-auth", "maybe"), ("--unheard-of",), ("surplus",)],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = _tidemark("dev", "--data-dir", str(tmp_path / "data"), *arguments)
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith("usage: tidemark ")
    assert arguments[0] in said.stderr.partition("error:")[2]
    assert not (tmp_path / "data").exists()
