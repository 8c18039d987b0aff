"""`tidemark dev --ha`: it outlives its primary, ends without a trace, and starts again with what was pushed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.ha import primary
from infra.local.mail import fresh_message_id, push_body
from shared.tokens import mint
from tests.support.dev_process import TIDEMARK, DevProcess, alive
from tests.support.gateway import NO_TLS, ROOT, eventually

BOX = "ann@example.com"
FAILOVER_S = 30.0
PARTS = {"redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3", "gateway", "origin"}


def push(dev: DevProcess, message_id: str) -> bool:
    """Push a message; tell whether it was acknowledged."""
    headers = dev.data_dir.push_signer().authorization()
    body = push_body(BOX, 4711, message_id)
    answer = httpx.post(f"{dev.url}/push", json=body, headers=headers, timeout=10, verify=NO_TLS, trust_env=False)
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def pushed(dev: DevProcess) -> str:
    """Push one message until it is acknowledged, as Pub/Sub does; return its id."""
    message_id = fresh_message_id()
    eventually(lambda: push(dev, message_id), "the push is acknowledged", FAILOVER_S)
    return message_id


def held(dev: DevProcess) -> list[str]:
    """Give the ids of the messages that can be replayed."""
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    token = mint("ann", [f"gmail:{BOX}"], kid=kid, key=key, ttl_s=600, now=time.time())
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{dev.url}/replay?after=earliest"
    answer = httpx.get(url, headers=headers, timeout=10, verify=NO_TLS, trust_env=False)
    page: dict[str, Any] = answer.raise_for_status().json()
    return [event["id"] for event in page["events"]]


def primary_of(dev: DevProcess) -> str:
    return asyncio.run(primary(dev.data_dir.path / "ha"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_its_primary_dies_and_pushes_are_taken_again_also_after_a_restart(
    tmp_path: Path, number: signal.Signals
) -> None:
    """What was acknowledged before the failover, after it and before the end is all there: nothing lags here."""
    with DevProcess.running(tmp_path / "data", arguments=("--ha",)) as dev:
        before = dev.processes
        assert set(before) == PARTS
        assert primary_of(dev) == "redis-1"
        ids = [pushed(dev)]
        os.kill(before["redis-1"], signal.SIGKILL)
        ids.append(pushed(dev))
        assert primary_of(dev) == "redis-2"
        ids.append(pushed(dev))
        eventually(lambda: dev.processes["redis-1"] != before["redis-1"], "the dead one is started again", FAILOVER_S)
        assert primary_of(dev) == "redis-2"
        ids.append(pushed(dev))
        assert held(dev) == ids
        children = dev.children()
        assert len(children) >= len(PARTS)
        dev.signal(number)
        dev.ended()
        eventually(lambda: not alive(children), "no child is left", 5)
    with DevProcess.running(tmp_path / "data", arguments=("--ha",)) as dev:
        assert primary_of(dev) == "redis-2"
        assert held(dev) == ids
        ids.append(pushed(dev))
        assert held(dev) == ids


def test_with_a_redis_of_ones_own_it_is_wrong_usage(tmp_path: Path) -> None:
    said = subprocess.run(
        [TIDEMARK, "dev", "--ha", "--redis-url", "redis://127.0.0.1:1", "--data-dir", str(tmp_path / "data")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert said.returncode == 2
    assert "not allowed with argument" in said.stderr
    assert not (tmp_path / "data").exists()


def test_a_directory_that_does_not_say_which_redis_counts_is_an_error_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "data" / "ha" / "redis-2").mkdir(parents=True)
    said = subprocess.run(
        [TIDEMARK, "dev", "--ha", "--port", "0", "--data-dir", str(tmp_path / "data")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert said.returncode == 1
    assert "nobody knows which Redis was the primary last" in said.stderr
    assert said.stderr.count("\n") == 1
