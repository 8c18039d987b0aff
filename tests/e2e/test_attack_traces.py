"""What an attack run leaves behind, read whole: no token, no secret and no mailbox address, wherever one looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from infra.local.mail import push_body
from shared.keys import Keys
from tests.support.client_attack_table import (
    ANN,
    ANNA,
    ATTACKS,
    BOB,
    CURVE,
    ORIGIN,
    OTHER_KEY,
    OTHER_KID,
    PROVIDER,
    REVOKED,
    TOPIC,
    own,
)
from tests.support.client_attacks import answer_of, exchange, http_request, published, request_bytes
from tests.support.dev_process import TIDEMARK, DevProcess
from tests.support.gateway import ROOT, eventually
from tests.support.lambda_events import KID, TOKEN_KEY, Answer, redis_command
from tests.support.push_attack_table import ATTACKS as PUSH_ATTACKS
from tests.support.push_attack_table import GOOGLE, body, genuine
from tests.support.sentry_server import SentryServer
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE

BYPASS = "bypass-" + "b" * 32
#: The end of a token is its signature: short enough to be found in what was cut, and nothing else looks like it.
TAIL = 20
COMMAND_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """The gateway of a local stack, as far as `redis_command` needs it."""

    url: str
    token: str


@dataclass(slots=True)
class Run:
    """An attack run: every secret that was used in it, and every text that came of it, by where it was found."""

    dev: DevProcess
    sentry: SentryServer
    secrets: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)

    def send(self, name: str, method: str, target: str, headers: dict[str, str], sent: bytes | None) -> Answer:
        """Send a request; keep its answer, and what must not be found of it."""
        for value in (*headers.values(), target):
            for word in value.replace("=", " ").replace("&", " ").replace(",", " ").split():
                if word.count(".") >= 2 and len(word) > 3 * TAIL:
                    self.secrets.add(word[-TAIL:])
        answer = http_request(self.dev.port, method, target, headers, sent)
        self.texts[f"answer to {name}"] = repr((answer.headers, answer.body.decode()))
        return answer

    def command(self, *argv: str) -> None:
        """Run a command of ours on the stack, which may fail."""
        done = subprocess.run(
            [TIDEMARK, *argv],
            cwd=ROOT,
            env={**os.environ, "TIDEMARK_DATA_DIR": str(self.dev.data_dir.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
        self.texts[" ".join(argv[:1])] = done.stdout + done.stderr

    def found(self, secret: str) -> list[str]:
        """Say where a secret stands, in any of the forms in which it may."""
        forms = {secret, secret.lower(), secret.replace("@", "%40"), secret.replace("@", "\\u0040")}
        return [where for where, text in self.texts.items() if any(form in text for form in forms)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Attack a whole local stack that logs all it can and reports to Sentry, then stop it."""
    directory = tmp_path_factory.mktemp("dev") / "data"
    with (
        published(PROVIDER.jwk(), CURVE.jwk()) as provider,
        published(GOOGLE.jwk()) as google,
        SentryServer.running() as sentry,
        DevProcess.running(
            directory,
            environment={
                "TIDEMARK_TOKEN_KEYS": f"{KID}:{TOKEN_KEY},{OTHER_KID}:{OTHER_KEY}",
                "TIDEMARK_TOKEN_JWKS_URL": provider,
                "TIDEMARK_PUSH_JWKS_URL": google,
                "TIDEMARK_PUSH_AUDIENCE": PUSH_AUDIENCE,
                "TIDEMARK_PUSH_SERVICE_ACCOUNT": PUSH_ACCOUNT,
                "TIDEMARK_CLIENT_LIMIT": "100000",
                "TIDEMARK_BYPASS_SECRET": BYPASS,
                "TIDEMARK_CORS_ORIGINS": ORIGIN,
                "SENTRY_DSN": sentry.dsn,
                "POWERTOOLS_LOG_LEVEL": "DEBUG",
            },
        ) as dev,
    ):
        made = Run(dev, sentry)
        made.secrets |= {TOKEN_KEY, OTHER_KEY, BYPASS, dev.data_dir.keys().gateway_token, ANN, ANNA, BOB}
        attack(made)
        dev.signal(signal.SIGTERM)
        assert dev.ended() == 0
        made.texts["what the stack printed and logged"] = dev.printed()
        made.texts["what Sentry was sent"] = sentry.raw.decode(errors="replace")
        yield made


def attack(run: Run) -> None:
    """Send every attack, and good requests between them; then let things go wrong on our side."""
    run.command("revoke", REVOKED)
    for name, made in PUSH_ATTACKS.items():
        sent = made()
        # A good bypass secret keeps the limit from answering in the place of what is attacked.
        headers = {**sent.headers, "x-tidemark-bypass": BYPASS}
        answer = run.send(f"push: {name}", sent.method, sent.path + f"?{sent.query}", headers, sent.body)
        assert 400 <= answer.status < 500, name
    for name, (_refusal, make) in ATTACKS.items():
        request = make()
        target = f"{request.path}?{request.query}" if request.query else request.path
        answer = run.send(name, request.method, target, dict(request.headers), request.body)
        assert answer.status < 500, name  # on this origin some of them end at the page

    assert run.send("a genuine push", "POST", "/push", genuine(), body("m-good")).status == 200
    unreadable = json.dumps({**push_body(ANN, 1, "m-bad"), "message": {"data": f"{ANN}!", "messageId": "1"}})
    rejected = run.send("an unreadable push", "POST", "/push", genuine(), unreadable.encode())
    assert rejected.json()["status"] == "rejected"
    assert run.send("a page", "GET", f"/replay?after=earliest&token={own()}", {}, None).status == 200
    del run.texts["answer to a page"]  # whose mail it is, its owner may read
    query_token = own()
    run.secrets.add(query_token[-TAIL:])
    stream = exchange(run.dev.port, request_bytes("GET", f"/events?token={query_token}"), until=b"tidemark.hello")
    assert answer_of(stream).status == 200

    run.command("push", BOB, "--count", "2")
    run.command("tail", "--token", own(topics=["gmail:other"]), "--topic", TOPIC, "--url", run.dev.url)
    run.command("doctor")

    # A defect: the log holds what no code of ours can have put there.
    running = run.dev.data_dir.running()
    assert running is not None
    gateway = Place(running["gateway_url"], run.dev.data_dir.keys().gateway_token)
    redis_command(gateway, "DEL", Keys("dev").log(TOPIC))
    redis_command(gateway, "SET", Keys("dev").log(TOPIC), "no stream")
    broken = run.send(
        "a page of a broken log", "GET", f"/replay?after=earliest&topic={TOPIC}&token={own()}", {}, None
    )
    assert broken.status == 500
    # It waits in the queue, is tried three times, and ends among the dead letters: all of that is logged.
    kept = run.send("a push to it", "POST", "/push", genuine(), body("m-broken"))
    assert (kept.status, kept.json()) == (200, {"status": "queued"})
    eventually(lambda: '"message": "dead letter"' in run.dev.printed(), "it is a dead letter", COMMAND_TIMEOUT_S)

    # An outage: what cannot be reached is named in the log.
    os.kill(run.dev.processes["gateway"], signal.SIGKILL)
    away = run.send("a push while the log is away", "POST", "/push", genuine(), body("m-away"))
    assert away.status in (200, 500, 503)
    eventually(run.dev.healthy, "the stack is back", COMMAND_TIMEOUT_S)


def test_the_run_has_left_texts_to_read(run: Run) -> None:
    """Or nothing below would mean anything: refusals, a defect and an outage are told, and masked."""
    logged = run.texts["what the stack printed and logged"]
    for told in ("push refused", "push rejected and parked", "push queued", "log_defect", "dead letter", "***"):
        assert told in logged, told
    assert len(run.sentry.events) >= 2
    assert "LogDefectError" in run.texts["what Sentry was sent"]
    assert len(run.texts) > len(ATTACKS)
    assert len(run.secrets) > 100


def test_no_token_no_secret_and_no_address_stands_in_any_of_them(run: Run) -> None:
    """Neither as it was sent, nor percent-encoded, nor escaped, nor in small letters."""
    leaks = {secret: where for secret in run.secrets if (where := run.found(secret))}
    assert leaks == {}
