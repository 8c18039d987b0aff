"""Holds the gateway to Upstash through its JavaScript client, which is also the only one that subscribes.

Each script in `node/` asserts for itself; what it says on failure is shown here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import ROOT, Gateway, eventually
from tests.support.require import require

SCRIPTS = Path(__file__).parent / "node"
TIMEOUT_S = 60


@pytest.fixture
def run(gateway: Gateway, key_prefix: str) -> Callable[[str], None]:
    node = shutil.which("node")
    require(node is not None, "node")
    require(
        (ROOT / "node_modules" / "@upstash" / "redis").is_dir(),
        "node_modules/@upstash/redis (run `npm ci`)",
    )

    def run(script: str) -> None:
        done = subprocess.run(
            [str(node), str(SCRIPTS / script)],
            env={
                "PATH": os.environ.get("PATH", ""),
                "UPSTASH_REDIS_REST_URL": gateway.url,
                "UPSTASH_REDIS_REST_TOKEN": gateway.token,
                "KEY_PREFIX": key_prefix,
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    return run


def test_commands_of_every_type_scripts_pipelines_and_errors(run: Callable[[str], None]) -> None:
    run("commands.mjs")


def test_calls_of_one_tick_are_one_pipeline(run: Callable[[str], None], gateway: Gateway) -> None:
    before: dict[str, Any] = gateway.stats()["requests"]
    run("auto_pipelining.mjs")
    after: dict[str, Any] = gateway.stats()["requests"]
    assert after["pipeline"] - before["pipeline"] == 3
    assert after["command"] == before["command"]


def test_subscriptions_are_told_everything_and_leave_nothing_open(
    run: Callable[[str], None], gateway: Gateway
) -> None:
    run("feeds.mjs")
    eventually(lambda: gateway.stats()["connections"]["open_subscriptions"] == 0, "the script's feeds are closed")
