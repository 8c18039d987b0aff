"""`tidemark push`, `token`, `tail` and `doctor` as processes, and what the page asks of `tidemark dev`.

All against one running stack. Whatever happens: exit codes 0, 1 and 2, what is meant for machines on stdout, what
is meant for people on stderr, and no traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from infra.cli import main
from infra.local.data_dir import DataDir
from infra.local.openapi import describe
from shared.tokens import Grant, TokenVerifier, mint
from tests.support.command import Command
from tests.support.dev_process import TIDEMARK, DevProcess
from tests.support.gateway import NO_TLS, ROOT, eventually, free_port
from tests.support.lambda_events import process_environment

PAGE = ROOT / "infra" / "local" / "page"
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """Give a running stack."""
    with DevProcess.running(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


@pytest.fixture
def page(dev: DevProcess) -> Iterator[httpx.Client]:
    """Give a client of the stack's origin."""
    with httpx.Client(base_url=dev.url, verify=NO_TLS, trust_env=False, timeout=TIMEOUT_S) as client:
        yield client


def tidemark(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. It never shows a traceback."""
    run = subprocess.run(
        [TIDEMARK, *map(str, arguments)],
        cwd=ROOT,
        env=process_environment(settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in run.stderr
    return run


class RunHere(Protocol):
    """Runs the command inside of the test's process: exit code, stdout, stderr."""

    def __call__(self, *arguments: object) -> tuple[int, str, str]: ...


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """Spare the second that a process of its own takes to import everything."""
    for name in ("TIDEMARK_TOKEN_KEYS", "TIDEMARK_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def data_dir(dev: DevProcess) -> tuple[str, Path]:
    return ("--data-dir", dev.data_dir.path)


def answers(run: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the answers of a push that went well: one JSON object a line."""
    assert (run.returncode, run.stderr) == (0, "")
    return [json.loads(line) for line in run.stdout.splitlines()]


def replayed(dev: DevProcess, topic: str) -> list[dict[str, Any]]:
    """Return the events of a topic."""
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    headers = {"authorization": f"Bearer {mint('test', [topic], kid=kid, key=key, ttl_s=60, now=time.time())}"}
    answer = httpx.get(f"{dev.url}/replay?after=earliest", headers=headers, verify=NO_TLS, trust_env=False)
    events: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
    return events


def verified(dev: DevProcess, token: str) -> Grant:
    return asyncio.run(TokenVerifier(dev.data_dir.keys().token_keys).verify(token))


# -- push


def test_push_sends_as_many_as_it_is_told_and_prints_each_answer(dev: DevProcess) -> None:
    """History ids count up from the first; the stack is found by its data directory, here by the environment's."""
    directory = str(dev.data_dir.path)
    run = tidemark("push", "Count@Example.com", "--count", 3, "--history-id", 2**63, TIDEMARK_DATA_DIR=directory)
    told = answers(run)
    assert [answer["status"] for answer in told] == ["published"] * 3
    events = replayed(dev, "gmail:count@example.com")
    assert [event["position"] for event in events] == [answer["id"] for answer in told]
    assert [event["data"]["historyId"] for event in events] == [str(2**63 + number) for number in range(3)]
    assert len({event["id"] for event in events}) == 3


def test_push_with_a_message_id_is_a_redelivery(dev: DevProcess) -> None:
    """The second answer names the first's position."""
    first, second = answers(tidemark("push", "again@b.c", "--message-id", "m-1", "--count", 2, *data_dir(dev)))
    assert first["status"] == "published"
    assert second == {"status": "duplicate", "id": first["id"]}


def test_push_keeps_to_a_rate(dev: DevProcess) -> None:
    """Five at forty a second begin a tenth of a second apart, first and last."""
    told = answers(tidemark("push", "rate@b.c", "--count", 5, "--rate", 40, "--url", dev.url, *data_dir(dev)))
    assert [answer["status"] for answer in told] == ["published"] * 5
    # They were sent beside each other, so they may have arrived in another order.
    began = sorted(datetime.fromisoformat(event["time"]) for event in replayed(dev, "gmail:rate@b.c"))
    assert len(began) == 5
    assert (began[-1] - began[0]).total_seconds() >= 0.09


def test_push_fails_when_nobody_answers() -> None:
    """1, and who did not; nothing that a script could take for an answer."""
    url = f"http://127.0.0.1:{free_port()}"
    run = tidemark("push", "a@b.c", "--url", url)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"tidemark push: {url} did not answer")
    assert len(run.stderr.splitlines()) == 1


def test_push_fails_when_it_is_not_acknowledged(dev: DevProcess) -> None:
    """Something else listens there. What it said is printed as JSON all the same."""
    running = dev.data_dir.running()
    assert running is not None
    run = tidemark("push", "a@b.c", "--url", running["gateway_url"])
    assert run.returncode == 1
    assert "error" in json.loads(run.stdout)


# -- revoke


def test_revoke_ends_what_was_issued_before(dev: DevProcess) -> None:
    """It says from when on; a page that asks again is refused, and others are not."""
    topic = "gmail:revoke@b.c"
    old = tidemark("token", "rita", "--topic", topic, *data_dir(dev)).stdout.strip()
    run = tidemark("revoke", "rita", *data_dir(dev))
    assert (run.returncode, run.stderr) == (0, "")
    said = json.loads(run.stdout)
    assert said["user"] == "rita"
    assert abs(datetime.fromisoformat(said["revoked_at"]).timestamp() - time.time()) < 30

    def replay(token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{dev.url}/replay?after=earliest", headers=headers, verify=NO_TLS, trust_env=False)

    refused = replay(old)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    other = tidemark("token", "ben", "--topic", topic, *data_dir(dev)).stdout.strip()
    assert replay(other).status_code == 200


def test_revoke_without_a_log_revokes_nothing_and_says_so(run_here: RunHere, tmp_path: Path) -> None:
    """1: whoever revokes must know."""
    code, out, err = run_here("revoke", "ann", "--data-dir", tmp_path)
    assert (code, out) == (1, "")
    assert "nothing is done" in err


# -- token


def test_token_prints_a_token_and_nothing_else(dev: DevProcess) -> None:
    """Exact topics and prefixes, for as long as it was told, signed with the stack's key."""
    before = time.time()
    run = tidemark("token", "ann", "--topic", "gmail:a@b.c", "--topic", "gmail:team-*", "--ttl", 90, *data_dir(dev))
    assert (run.returncode, run.stderr) == (0, "")
    [token] = run.stdout.splitlines()
    grant = verified(dev, token)
    assert (grant.user, grant.exact, grant.prefixes) == ("ann", ("gmail:a@b.c",), ("gmail:team-",))
    assert before + 89 <= grant.expires_at <= time.time() + 90


def test_token_signs_with_the_first_configured_key(tmp_path: Path) -> None:
    """As a deployed application would, whatever key the data directory holds. An hour is the default."""
    old, new = "o" * 32, "n" * 32
    settings = {"TIDEMARK_TOKEN_KEYS": f"new:{new},old:{old}", "TIDEMARK_DATA_DIR": str(tmp_path)}
    run = tidemark("token", "ann", "--topic", "*", **settings)
    grant = asyncio.run(TokenVerifier({"new": new}).verify(run.stdout.strip()))
    assert grant.prefixes == ("",)
    assert 3590 <= grant.expires_at - time.time() <= 3600


# -- tail


@contextlib.contextmanager
def tailing(tmp_path: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `tidemark tail` with its output in a file; at the end nothing of it is left."""
    out = tmp_path / "tail.out"
    with out.open("wb") as stdout, (tmp_path / "tail.err").open("wb") as stderr:
        process = subprocess.Popen(
            [TIDEMARK, "tail", *map(str, arguments)],
            cwd=ROOT,
            env=process_environment({}),
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield process, out
    finally:
        process.kill()
        process.wait()


def lines(out: Path, count: int) -> list[str]:
    """Wait for lines."""
    eventually(lambda: out.read_text().count("\n") >= count, f"{count} lines in {out}", TIMEOUT_S)
    return out.read_text().splitlines()


def token_for(dev: DevProcess, *topics: str) -> str:
    kid, key = next(iter(dev.data_dir.keys().token_keys.items()))
    return mint("ann", topics, kid=kid, key=key, ttl_s=600, now=time.time())


def test_tail_prints_what_is_held_and_then_what_comes(dev: DevProcess, page: httpx.Client, tmp_path: Path) -> None:
    """With --json one envelope a line, each at once. Ctrl-C ends it quietly: it has done what it was for."""
    held = [page.post("/dev/mail", json={"mailbox": "tail@b.c"}).json()["id"] for _ in range(2)]
    token = token_for(dev, "gmail:tail@b.c")
    with tailing(tmp_path, "--token", token, "--from", "earliest", "--json", *data_dir(dev)) as (process, out):
        assert [json.loads(line)["position"] for line in lines(out, 2)] == held
        live = page.post("/dev/mail", json={"mailbox": "tail@b.c"}).json()
        envelope = json.loads(lines(out, 3)[2])
        assert (envelope["position"], envelope["topic"]) == (live["id"], "gmail:tail@b.c")
        assert envelope["data"] == {"emailAddress": "tail@b.c", "historyId": live["history_id"]}
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
    assert (tmp_path / "tail.err").read_text() == ""


def test_tail_begins_after_a_cursor_and_ends_when_nobody_reads_it(dev: DevProcess, page: httpx.Client) -> None:
    """One line for people a event; `tail | head` is no error."""
    held = [page.post("/dev/mail", json={"mailbox": "pipe@b.c"}).json() for _ in range(3)]
    token = token_for(dev, "gmail:*")
    arguments = ["--token", token, "--topic", "gmail:pipe@b.c", "--from", held[0]["id"], "--url", dev.url]
    with subprocess.Popen(
        [TIDEMARK, "tail", *arguments],
        cwd=ROOT,
        env=process_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert first.split("  ")[1:] == [
            "gmail:pipe@b.c",
            f"historyId={held[1]['history_id']}",
            f"at {held[1]['id']}\n",
        ]
        process.stdout.close()
        # The next line finds the pipe closed, at the latest with the next event.
        page.post("/dev/mail", json={"mailbox": "pipe@b.c"})
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr.read() == ""


def test_tail_fails_when_it_is_refused(dev: DevProcess, run_here: RunHere) -> None:
    """1, with the server's reason on stderr; it does not try for ever."""
    run = tidemark("tail", "--token", "x.y.z", *data_dir(dev))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("tidemark tail: 401: ")
    code, out, err = run_here("tail", "--token", token_for(dev, "a"), "--topic", "b", *data_dir(dev))
    assert (code, out) == (1, "")
    assert err == "tidemark tail: 403: The token does not allow one of these topics.\n"


# -- what the origin says of itself


def test_the_origin_serves_the_description_of_its_endpoints(dev: DevProcess) -> None:
    """As JSON, for tools."""
    answer = httpx.get(f"{dev.url}/openapi.json", verify=NO_TLS, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == describe()


# -- doctor


def test_doctor_finds_a_healthy_stack_well(dev: DevProcess) -> None:
    """0, and a line for each thing that it has looked at; each function is used once."""
    run = tidemark("doctor", *data_dir(dev))
    assert (run.returncode, run.stderr) == (0, "")
    assert all(line.startswith("ok ") for line in run.stdout.splitlines()), run.stdout
    looked_at = [line.split()[1] for line in run.stdout.splitlines()]
    log = ["log:", "scripts:", "writing:", "live", "eviction:"]
    assert looked_at == [
        "settings:",
        *log,
        "delivery",
        "dead",
        "confirmation",
        "push",
        "origin:",
        "push:",
        "stream:",
        "replay:",
    ]
    keys = dev.data_dir.keys()
    assert not [secret for secret in (keys.gateway_token, *keys.token_keys.values()) if secret in run.stdout]


def test_doctor_says_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    """1; every setting at fault is named, with a way out."""
    run = tidemark("doctor", "--data-dir", tmp_path / "none")
    assert run.returncode == 1
    findings = run.stdout.splitlines()
    told, fixes = findings[::2], findings[1::2]
    assert all(line.startswith("FAIL ") for line in told)
    assert all(line.lstrip().startswith("-> ") for line in fixes)
    for name in ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "TIDEMARK_TOKEN_KEYS"):
        assert any(name in line for line in told)
    assert any("tidemark dev" in line for line in fixes)
    assert not (tmp_path / "none").exists()


def test_doctor_finds_a_log_and_an_origin_that_do_not_answer(tmp_path: Path) -> None:
    """1, each with what to look at; the REST token is not shown."""
    away = f"http://127.0.0.1:{free_port()}"
    settings = {
        "UPSTASH_REDIS_REST_URL": away,
        "UPSTASH_REDIS_REST_TOKEN": "very-secret-token",
        "TIDEMARK_TOKEN_KEYS": f"a:{'k' * 32}",
        "TIDEMARK_PUSH_AUTH": "off",
    }
    run = tidemark("doctor", "--url", away, "--data-dir", tmp_path, **settings)
    assert run.returncode == 1
    found = [line.split()[:2] for line in run.stdout.splitlines() if not line.startswith(" ")]
    not_well = [["FAIL", "log:"], ["warn", "queues:"], ["warn", "pushes:"], ["FAIL", "origin:"]]
    assert found == [["ok", "settings:"], *not_well]
    assert run.stdout.count("-> ") == len(not_well)
    assert "secret" not in run.stdout + run.stderr


def test_doctor_fetches_the_keys_that_tokens_are_verified_with(dev: DevProcess, tmp_path: Path) -> None:
    """How many there are; or why they are not to be had, and which setting says where they should be."""
    settings = {
        "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{free_port()}",
        "UPSTASH_REDIS_REST_TOKEN": "t",
        "TIDEMARK_TOKEN_KEYS": f"a:{'k' * 32}",
        "TIDEMARK_PUSH_AUDIENCE": "a",
        "TIDEMARK_PUSH_SERVICE_ACCOUNT": "a@b.c",
        "TIDEMARK_PUSH_JWKS_URL": f"{dev.url}/dev/push-keys",
        "TIDEMARK_TOKEN_JWKS_URL": f"{dev.url}/healthz",
    }
    lines = tidemark("doctor", "--data-dir", tmp_path, **settings).stdout.splitlines()
    assert "ok    push keys: 1 at 127.0.0.1, fresh for 3600 s" in lines
    broken = lines.index("FAIL  token keys: not a JWK set (KeyError)")
    assert "TIDEMARK_TOKEN_JWKS_URL" in lines[broken + 1]
    settings["TIDEMARK_PUSH_JWKS_URL"] = f"http://127.0.0.1:{free_port()}/keys"
    away = tidemark("doctor", "--data-dir", tmp_path, **settings).stdout
    assert "FAIL  push keys: [Errno 111] Connect call failed" in away


# -- a deployment


def test_commands_find_a_deployment_by_the_environment(dev: DevProcess, tmp_path: Path, command: Command) -> None:
    """As `tidemark env` names it, and before any local stack; --url has the last word."""
    push = ("push", "env@example.com", "--data-dir", dev.data_dir.path)
    assert command(*push, settings={"TIDEMARK_WEBHOOK_URL": f"{dev.url}/"}).code == 0
    away = {"TIDEMARK_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}"}
    elsewhere = command(*push, settings=away)
    assert (elsewhere.code, away["TIDEMARK_WEBHOOK_URL"] in elsewhere.err) == (1, True)
    assert command(*push, "--url", dev.url, settings=away).code == 0
    tail = ("tail", "--token", "t", "--data-dir", tmp_path)
    refused = command(*tail, settings={"TIDEMARK_STREAM_URL": dev.url})
    assert (refused.code, refused.err.startswith("tidemark tail: 401: ")) == (1, True)
    broken = command(*tail, settings={"TIDEMARK_STREAM_URL": "events.example.com"})
    assert (broken.code, broken.err) == (1, "tidemark tail: TIDEMARK_STREAM_URL must be an http(s) URL\n")


def test_a_push_may_carry_the_token_that_a_command_prints(dev: DevProcess, tmp_path: Path, command: Command) -> None:
    """As gcloud prints one for a deployment; a command that prints none is told, and nothing is sent."""
    token = dev.data_dir.push_signer().authorization()["Authorization"].removeprefix("Bearer ")
    push = ("push", "cmd@example.com", "--url", dev.url, "--data-dir", tmp_path / "none", "--push-token-command")
    assert [answer["status"] for answer in command(*push, f"printf {token}").lines()] == ["published"]
    assert not (tmp_path / "none").exists()
    for printing, why in (("false", "returned non-zero"), ("true", "prints no token"), ("no-such", "No such file")):
        ran = command(*push, printing)
        assert (ran.code, ran.out, why in ran.err) == (1, "", True)


# -- usage

WRONG = {
    "no command": (),
    "an unknown command": ("fly",),
    "push without a mailbox": ("push",),
    "push of an unusable mailbox": ("push", "a,b@c.d"),
    "push of none": ("push", "a@b.c", "--count", "0"),
    "push at no rate": ("push", "a@b.c", "--rate", "0"),
    "push at a rate that is no number": ("push", "a@b.c", "--rate", "nan"),
    "push of a history id that is none": ("push", "a@b.c", "--history-id", "-1"),
    "push to what is no URL": ("push", "a@b.c", "--url", "127.0.0.1:8787"),
    "push to a port that is none": ("push", "a@b.c", "--url", "http://127.0.0.1:99999"),
    "token without a topic": ("token", "ann"),
    "token of nobody": ("token", "", "--topic", "a"),
    "token of a bad topic": ("token", "ann", "--topic", "a b"),
    "token that lives too long": ("token", "ann", "--topic", "a", "--ttl", "86401"),
    "token that does not live": ("token", "ann", "--topic", "a", "--ttl", "0"),
    "tail without a token": ("tail",),
    "tail from nowhere": ("tail", "--token", "t", "--from", "yesterday"),
    "tail of a bad topic": ("tail", "--token", "t", "--topic", "a,b"),
    "doctor of what is no URL": ("doctor", "--url", "http://["),
    "dev on a port that is none": ("dev", "--port", "65536"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2_and_a_hint(run_here: RunHere, arguments: tuple[str, ...]) -> None:
    """On stderr: how it is used and what is wrong; stdout stays empty."""
    code, out, err = run_here(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: tidemark")
    assert "error: " in err.splitlines()[-1]


def test_the_exit_code_of_wrong_usage_is_the_processes() -> None:
    """As a shell sees it."""
    run = tidemark("push", "a@b.c", "--url", "http://127.0.0.1:99999")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[-1] == "tidemark push: error: argument --url: must be an http(s) URL"


def test_help_is_no_error(run_here: RunHere) -> None:
    """0, on stdout, with every command of this version."""
    code, out, err = run_here("--help")
    assert (code, err) == (0, "")
    assert {"dev", "push", "token", "revoke", "tail", "dlq", "forget", "doctor"} <= set(out.split())


def test_a_data_directory_that_cannot_be_used_is_told(run_here: RunHere, tmp_path: Path) -> None:
    """1, with its name: a file stands there, or its keys are damaged."""
    (tmp_path / "file").write_text("")
    code, out, err = run_here("token", "ann", "--topic", "a", "--data-dir", tmp_path / "file")
    assert (code, out) == (1, "")
    assert err.startswith(f"tidemark token: cannot use the data directory {tmp_path / 'file'}")
    damaged = DataDir(tmp_path / "damaged")
    (damaged.make() / "keys.json").write_text("{")
    code, out, err = run_here("token", "ann", "--topic", "a", "--data-dir", damaged.path)
    assert (code, out) == (1, "")
    assert err == f"tidemark token: {damaged.path}/keys.json is damaged: remove it to have new keys made\n"


# -- the page


def test_the_page_is_fenced_in_by_its_headers(page: httpx.Client) -> None:
    """It loads scripts and styles of its own origin, talks to it, and is shown in no frame."""
    answer = page.get("/")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/html")
    parts = (part.split() for part in answer.headers["content-security-policy"].split(";"))
    policy = {name: values for name, *values in parts}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_every_file_of_the_page_is_served(page: httpx.Client) -> None:
    """With its bytes and a type that `nosniff` accepts; what it refers to is among them."""
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    files = [file for file in PAGE.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"index.html", "app.js", "style.css"}
    for file in files:
        answer = page.get(f"/page/{file.relative_to(PAGE)}")
        assert (answer.status_code, answer.content) == (200, file.read_bytes()), file
        assert answer.headers["content-type"].partition(";")[0] == types[file.suffix], file


@pytest.mark.parametrize(
    "path", ["/page/", "/page/none.js", "/page/%2e%2e/origin.py", "/page/..%2forigin.py", "/none", "/dev"]
)
def test_nothing_else_is_served(page: httpx.Client, path: str) -> None:
    """No listing, nothing above the page's directory; a problem, as everywhere."""
    answer = page.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_the_page_is_given_a_token_for_what_it_follows(dev: DevProcess, page: httpx.Client) -> None:
    """For an hour, and never stored."""
    answer = page.post("/dev/token", json={"user": "ann", "topics": ["gmail:a@b.c"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json().keys() == {"token", "expires_in_s"}
    grant = verified(dev, answer.json()["token"])
    assert (grant.user, grant.exact) == ("ann", ("gmail:a@b.c",))
    assert abs(grant.expires_at - time.time() - answer.json()["expires_in_s"]) < 5


def test_the_page_sends_mail_through_the_webhook(dev: DevProcess, page: httpx.Client) -> None:
    """The answer is the webhook's, and says which message it was."""
    answer = page.post("/dev/mail", json={"mailbox": "Page@Example.com"})
    told = answer.json()
    assert (answer.status_code, told["status"], answer.headers["cache-control"]) == (200, "published", "no-store")
    [event] = replayed(dev, "gmail:page@example.com")
    assert (event["position"], event["id"]) == (told["id"], told["message_id"])
    assert event["data"]["historyId"] == told["history_id"]


BODIES = {"/dev/token": {"topics": ["gmail:a@b.c"]}, "/dev/mail": {"mailbox": "a@b.c"}}


@pytest.mark.parametrize("path", BODIES)
def test_another_sites_page_can_neither_get_a_token_nor_send_mail(page: httpx.Client, path: str) -> None:
    """What a browser sends without asking first is refused by its type, a rebound name by its Host."""
    body = json.dumps(BODIES[path])
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None):
        headers = {} if content_type is None else {"content-type": content_type}
        answer = page.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_from_the_page")
    for host in ("evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"):
        answer = page.post(path, content=body, headers={"content-type": "application/json", "host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_from_the_page"), host
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight = page.options(path, headers={**asked, "access-control-request-headers": "content-type"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "[::1]:9", "127.0.0.1"])
def test_the_page_may_be_opened_under_any_name_of_this_machine(page: httpx.Client, host: str) -> None:
    """A tunnel or an editor may forward another port."""
    answer = page.post("/dev/token", json=BODIES["/dev/token"], headers={"host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/dev/token", b"", "bad_body"),
        ("/dev/token", b"[]", "bad_body"),
        ("/dev/token", b"{}", "bad_body"),
        ("/dev/token", b'{"topics":"a"}', "bad_body"),
        ("/dev/token", b'{"topics":[1]}', "bad_body"),
        ("/dev/token", b'{"topics":["a"],"user":7}', "bad_body"),
        ("/dev/token", b'{"topics":["a b"]}', "bad_topic"),
        ("/dev/mail", b"{", "bad_body"),
        ("/dev/mail", b'{"mailbox":7}', "bad_body"),
        ("/dev/mail", b'{"mailbox":"a,b"}', "bad_topic"),
    ],
)
def test_a_bad_request_of_the_page_is_told(page: httpx.Client, path: str, body: bytes, code: str) -> None:
    """As a problem."""
    answer = page.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", BODIES)
def test_a_large_request_of_the_page_is_413_and_a_get_405(page: httpx.Client, path: str) -> None:
    """A GET would be what a link or an image could send."""
    answer = page.post(path, content=b" " * 65_537, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    answer = page.get(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
