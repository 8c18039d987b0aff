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

from infra.local.ha import Layout, primary
from infra.local.mail import fresh_message_id, push_body
from infra.local.resp import RespClient
from shared.tokens import mint
from tests.support.dev_process import TIDEMARK, DevProcess, alive
from tests.support.gateway import NO_TLS, ROOT, eventually

BOX = "ann@example.com"
FAILOVER_S = 30.0
PARTS = {"redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3"}


def push(dev: DevProcess) -> tuple[str, str]:
    """Push a message; return its id, and what became of it: it is acknowledged in any case."""
    message_id = fresh_message_id()
    headers = dev.data_dir.push_signer().authorization()
    body = push_body(BOX, 4711, message_id)
    answer = httpx.post(f"{dev.url}/push", json=body, headers=headers, timeout=10, verify=NO_TLS, trust_env=False)
    assert answer.status_code == 200, answer.text
    return message_id, answer.json()["status"]


def pushed(dev: DevProcess) -> list[str]:
    """Push until the log itself takes a message; return the ids of all, which until then the queue has taken."""
    ids: list[str] = []

    def published() -> bool:
        message_id, status = push(dev)
        ids.append(message_id)
        return status == "published"

    eventually(published, "the log takes a push", FAILOVER_S)
    return ids


def held(dev: DevProcess) -> list[str]:
    """Give the ids of the messages that can be replayed."""
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    token = mint("ann", [f"gmail:{BOX}"], kid=kid, key=key, ttl_s=600, now=time.time())
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{dev.url}/replay?after=earliest&limit=500"
    answer = httpx.get(url, headers=headers, timeout=10, verify=NO_TLS, trust_env=False)
    page: dict[str, Any] = answer.raise_for_status().json()
    return sorted(event["id"] for event in page["events"])


async def _all_replicated(dev: DevProcess) -> bool:
    """Tell whether the replica has every byte that the primary has."""
    offsets = set()
    for node in Layout.read(dev.data_dir.path / "ha").nodes:
        client = RespClient(f"redis://127.0.0.1:{node.listens}")
        role: Any = await client.execute("ROLE")
        offsets.add(role[1] if role[0] == b"master" else role[4])
        await client.close()
    return len(offsets) == 1


def replicated(dev: DevProcess) -> None:
    """Return when a failover would forget nothing: Redis acknowledges what it has not replicated yet."""
    eventually(lambda: asyncio.run(_all_replicated(dev)), "the replica has everything")


def primary_of(dev: DevProcess) -> str:
    return asyncio.run(primary(dev.data_dir.path / "ha"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_its_primary_dies_and_pushes_are_taken_again_also_after_a_restart(
    tmp_path: Path, number: signal.Signals
) -> None:
    """What was acknowledged before the failover, after it and before the end is all there."""
    with DevProcess.running(tmp_path / "data", arguments=("--ha",)) as dev:
        before = dev.processes
        assert set(before) > PARTS
        assert primary_of(dev) == "redis-1"
        ids = pushed(dev)
        replicated(dev)
        os.kill(before["redis-1"], signal.SIGKILL)
        ids += pushed(dev)
        assert primary_of(dev) == "redis-2"
        ids += pushed(dev)
        eventually(lambda: dev.processes["redis-1"] != before["redis-1"], "the dead one is started again", FAILOVER_S)
        assert primary_of(dev) == "redis-2"
        ids += pushed(dev)
        eventually(lambda: held(dev) == sorted(ids), "what was queued arrives as well", FAILOVER_S)
        children = dev.children()
        assert len(children) > len(PARTS)
        dev.signal(number)
        dev.ended()
        eventually(lambda: not alive(children), "no child is left", 5)
    with DevProcess.running(tmp_path / "data", arguments=("--ha",)) as dev:
        assert primary_of(dev) == "redis-2"
        assert held(dev) == sorted(ids)
        ids += pushed(dev)
        assert held(dev) == sorted(ids)


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
