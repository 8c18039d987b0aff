"""Dead letters of the local stack, as somebody meets them: a push dies, its cause is mended, it arrives."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.keys import Keys
from shared.tokens import mint
from tests.support.command import Command, Ran
from tests.support.dev_process import TIDEMARK, DevProcess
from tests.support.gateway import ROOT, eventually
from tests.support.lambda_events import process_environment, redis_command

ANN, BEN = "ann@example.com", "ben@example.com"
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """Give a running stack."""
    with DevProcess.running(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Give what runs `tidemark` here."""
    return Command(capsys)


class LocalGateway:
    """Redis behind the stack's gateway."""

    def __init__(self, dev: DevProcess) -> None:
        running = dev.data_dir.running()
        assert running is not None
        self.url: str = running["gateway_url"]
        self.token = dev.data_dir.keys().gateway_token

    def redis(self, *words: str | int) -> Any:
        return redis_command(self, *words)


@pytest.fixture
def tailed(dev: DevProcess, tmp_path: Path) -> Iterator[Path]:
    """Follow both mailboxes from now on, as a browser does; give the file that the events come to."""
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    token = mint("tester", ["gmail:*"], kid=kid, key=key, ttl_s=600, now=time.time())
    out = tmp_path / "tail.out"
    arguments = ["--token", token, "--json", "--url", dev.url, "--from", "earliest"]
    topics = ["--topic", f"gmail:{ANN}", "--topic", f"gmail:{BEN}"]
    with out.open("wb") as stdout, (tmp_path / "tail.err").open("wb") as stderr:
        process = subprocess.Popen(
            [TIDEMARK, "tail", *arguments, *topics],
            cwd=ROOT,
            env=process_environment({}),
            stdout=stdout,
            stderr=stderr,
        )
    yield out
    process.kill()
    process.wait()


def ids(out: Path) -> list[str]:
    """Return the ids of the events that came, in their order."""
    return [json.loads(line)["id"] for line in out.read_text().splitlines()]


def test_a_push_that_died_of_a_defect_arrives_once_when_it_is_mended(
    dev: DevProcess, command: Command, tailed: Path
) -> None:
    """The queue takes it, deliver gives it up, `dlq` tells why and puts it back, and the open stream gets it."""
    gateway, where = LocalGateway(dev), ("--data-dir", dev.data_dir.path)
    log = Keys("dev").log(f"gmail:{ANN}")

    def run(*words: object) -> Ran:
        return command(*words, *where)

    run("push", BEN, "--message-id", "m-before")
    eventually(lambda: ids(tailed) == ["m-before"], "the stream is open", TIMEOUT_S)
    gateway.redis("SET", log, "not a stream")
    (answer,) = run("push", ANN, "--message-id", "m-lost").lines()
    assert answer == {"status": "queued"}
    eventually(lambda: run("dlq", "list").out != "", "it is dead", TIMEOUT_S)
    (dead,) = run("dlq", "list").lines()
    assert (dead["death"], dead["mailbox"]) == ("unknown", ANN)
    assert "WRONGTYPE" in dead["reason"]
    (whole,) = run("dlq", "show", dead["id"]).lines()
    assert whole["event"]["envelope"]["data"]["emailAddress"] == ANN
    doctor = run("doctor")
    assert (doctor.code, "warn  dead letters: 1" in doctor.out) == (0, True)

    gateway.redis("DEL", log)
    (outcome,) = run("dlq", "redrive", dead["id"]).lines()
    assert outcome == {"id": dead["id"], "redriven": True, "why": None}
    eventually(lambda: ids(tailed) == ["m-before", "m-lost"], "it arrives", TIMEOUT_S)
    # It is known again, whoever sends it.
    (answer,) = run("push", ANN, "--message-id", "m-lost").lines()
    assert answer["status"] == "duplicate"
    assert run("dlq", "list").out == ""

    # And now it is forgotten, while the stack runs and the stream is open.
    forgotten = run("forget", ANN)
    assert (forgotten.code, forgotten.err) == (0, "")
    assert forgotten.lines()[0]["events"] == 1
    assert gateway.redis("KEYS", f"*{ANN}*") == []
    run("push", ANN, "--message-id", "m-new")
    eventually(lambda: ids(tailed) == ["m-before", "m-lost", "m-new"], "new mail arrives", TIMEOUT_S)
    assert gateway.redis("KEYS", f"*{BEN}*") == [Keys("dev").log(f"gmail:{BEN}")]
