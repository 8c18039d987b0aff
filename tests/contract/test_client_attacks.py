"""Attacks on `GET /events`, `GET /replay` and `POST /ack`, each by its name: the exact answer, and the log unchanged.

The stream function runs as it is deployed, under uvicorn in a process of its own; replay and ack run behind Mangum.
What cannot be said in an event of Lambda's is sent to the same application under uvicorn, byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.chaos.part import Part, answers
from infra.local.loopback import steady_port
from infra.local.mail import push_body
from shared.keys import Keys, digest
from shared.log import KEEP_REVOCATIONS_MS
from shared.scripts import script
from tests.support.client_attack_table import (
    ACK,
    ANN,
    ANNA,
    ANNAS,
    ATTACKS,
    BAD_BODY,
    BOB,
    BOBS,
    CURVE,
    DAY,
    ENDPOINTS,
    EVENTS,
    HOUR,
    INVALID,
    LATER,
    ORIGIN,
    OTHER_KEY,
    OTHER_KID,
    PROVIDER,
    REPLAY,
    REVOKED,
    TOO_LARGE,
    TOPIC,
    Endpoint,
    Refusal,
    Request,
    acked,
    at,
    claims,
    own,
)
from tests.support.client_attacks import (
    answer_of,
    anywhere,
    exchange,
    hmac_token,
    http_request,
    published,
    request_bytes,
    traces,
)
from tests.support.gateway import ROOT, GatewayProcess, eventually
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
    Answer,
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    process_environment,
    redis_command,
)
from tests.support.log_rig import own_stage

# -- what is attacked


@dataclass(frozen=True, slots=True)
class Site:
    """A stage with some mail, an ack of Ann's and a revoked user; and the functions that serve it."""

    gateway: GatewayProcess
    stage: str
    events: Part
    replay: LambdaFunction
    replay_over_http: Part
    positions: list[str]

    def send(self, name: str, request: Request) -> Answer:
        """Send the request of an attack of this name to where its endpoint is served."""
        return self.stream(request) if name.startswith(EVENTS.path) else self.invoke(request)

    def stream(self, request: Request) -> Answer:
        target = f"{request.path}?{request.query}" if request.query else request.path
        return http_request(self.events.port, request.method, target, request.headers, request.body)

    def invoke(self, request: Request) -> Answer:
        return self.replay.invoke(
            request.method,
            request.path,
            query=request.query,
            headers=request.headers,
            body=request.body,
            encoded=True,
        )

    def traces(self) -> dict[str, str]:
        return traces(self.gateway, self.stage)

    def page(self, token: str, query: str = REPLAY.query) -> Answer:
        return self.invoke(REPLAY.request(token, query=query))

    def printed(self) -> str:
        """Return all that the processes have printed."""
        return self.events.log() + self.replay_over_http.log()


def settings(gateway: GatewayProcess, stage: str, key_set: str) -> dict[str, str]:
    return environment(
        gateway,
        stage,
        TIDEMARK_TOKEN_KEYS=f"{KID}:{TOKEN_KEY},{OTHER_KID}:{OTHER_KEY}",
        TIDEMARK_TOKEN_JWKS_URL=key_set,
        TIDEMARK_CORS_ORIGINS=ORIGIN,
        TIDEMARK_CLIENT_LIMIT="100000",
    )


def seed(gateway: GatewayProcess, stage: str, replay: LambdaFunction) -> list[str]:
    """Push a mail to each mailbox, acknowledge the first as Ann, revoke a user; return the positions."""
    positions = []
    with deployed("functions.webhook.handler", environment(gateway, stage)) as webhook:
        for number, mailbox in enumerate((ANN, ANNA, BOB)):
            body = json.dumps(push_body(mailbox, 4711, f"m-{number}")).encode()
            positions.append(webhook.invoke("POST", "/push", body=body).json()["id"])
    taken = replay.invoke("POST", "/ack", headers=ACK.request().headers, body=acked(positions[0], "tab"))
    assert taken.status == 204
    key = Keys(stage).revoked
    redis_command(gateway, "EVAL", script("revoke"), 1, key, digest(REVOKED), "", KEEP_REVOCATIONS_MS)
    return positions


@pytest.fixture(scope="module")
def site(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start it once: nothing that is refused changes it."""
    stage, directory = own_stage(), tmp_path_factory.mktemp("attacks")
    with (
        published(PROVIDER.jwk(), CURVE.jwk()) as key_set,
        deployed("functions.replay.handler", settings(gateway, stage, key_set)) as replay,
    ):
        positions = seed(gateway, stage, replay)
        environ = process_environment(settings(gateway, stage, key_set))
        # run.sh starts the python3 on the PATH.
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"

        def part(name: str, *argv: str) -> Part:
            port = steady_port()
            place = {**environ, "PORT": str(port)}
            whole = [*argv, "--port", str(port), name] if name == "replay" else argv
            return Part(name, port, whole, environment=place, log=directory / f"{name}.log", ready=answers)

        events = part("stream", "sh", str(ROOT / "functions" / "stream" / "run.sh"))
        over_http = part("replay", sys.executable, "-m", "infra.local.serve")

        async def start() -> None:
            await asyncio.gather(events.start(), over_http.start())

        try:
            asyncio.run(start())
            yield Site(gateway, stage, events, replay, over_http, positions)
        finally:
            for process in (events, over_http):
                process.terminate()
                process.stop()


@pytest.fixture
def before(site: Site) -> dict[str, str]:
    """Give what Redis held before the attack."""
    found = site.traces()
    assert len(found) >= 10
    return found


# -- the tests


def check_refused(answer: Answer, refusal: Refusal) -> None:
    """Hold an answer to the contract: a problem of this status and code, that no page may read."""
    check_problem(answer, *refusal)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("www-authenticate" in answer.headers) == (refusal.status == 401)
    assert not any(name.startswith("access-control-allow-") for name in answer.headers)
    assert "x-evil" not in str(answer)


def check_silent(site: Site, request: Request, answer: Answer | None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the answer nor what was logged shows the token or a mailbox."""
    said = [str(answer), site.printed(), *(str(vars(record)) for record in caplog.records)]
    assert len(request.secret) < 20 or not anywhere(request.secret[-20:], *said)
    for mailbox in (ANN, ANNA, BOB):
        assert not anywhere(mailbox, *said)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_changes_nothing(
    site: Site, before: dict[str, str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The exact status and code; Redis as it was; nothing of the token or a mailbox in the answer or the log."""
    caplog.set_level("DEBUG", logger="tidemark")
    refusal, make = ATTACKS[name]
    request = make()
    answer = site.send(name, request)
    check_refused(answer, refusal)
    assert site.traces() == before
    check_silent(site, request, answer, caplog)


def test_between_the_attacks_good_clients_are_served(
    site: Site, before: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The same processes, all attacks in turn: a page after each, a stream at the end; nothing secret is printed."""
    caplog.set_level("DEBUG", logger="tidemark")
    token = own(sub="good")
    for name, (refusal, make) in ATTACKS.items():
        assert site.send(name, make()).status == refusal.status, name
        page = site.page(token)
        assert (page.status, [event["position"] for event in page.json()["events"]]) == (200, site.positions[:1])
    target = f"/events?from=earliest&token={token}"
    received = exchange(site.events.port, request_bytes("GET", target), until=site.positions[0].encode() + b'"')
    assert answer_of(received).status == 200
    assert f'"position":"{site.positions[0]}"'.encode() in received
    eventually(lambda: site.traces() == before, "the stream has given its slot back, and left nothing")
    check_silent(site, Request("GET", "/events", secret=token), None, caplog)


# -- what an attack is one step away from


@pytest.mark.parametrize(
    "sign",
    [
        own,
        lambda: hmac_token(claims(), key=OTHER_KEY, kid=OTHER_KID),
        lambda: PROVIDER.sign(claims()),
        lambda: CURVE.sign(claims()),
        lambda: at("exp", DAY - 60),
        lambda: at("iat", -HOUR),
        lambda: at("nbf", -HOUR),
        lambda: own(exp=time.time() + 60.5),
        lambda: own(jku="https://evil.example/keys", role="admin"),
    ],
    ids=["ours", "our other key", "RSA", "a curve", "a day", "an old one", "nbf", "a fraction", "more claims"],
)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=["events", "replay", "ack"])
def test_a_good_token_is_taken(
    site: Site, before: dict[str, str], endpoint: Endpoint, sign: Callable[[], str]
) -> None:
    """By each endpoint; the ack is one that is kept already."""
    body = acked(site.positions[0], "tab") if endpoint is ACK else None
    request = endpoint.request(sign(), body=body)
    assert site.send(endpoint.path, request).status == (204 if endpoint is ACK else 200)
    eventually(lambda: site.traces() == before, "the stream has given its slot back, and left nothing")


def test_the_limits_themselves_are_allowed(site: Site, before: dict[str, str]) -> None:
    """256 characters of sub, 320 of a topic, 50 topics, 64 of a client, 500 events: pages without any event."""
    everything = own(sub="s" * 256, topics=["*"])
    queries = [
        "after=earliest&topic=" + "a" * 320,
        "after=earliest&" + "&".join(f"topic=t{n}" for n in range(50)),
        "after=acked&topic=t&client=" + "a" * 64,
        "after=earliest&topic=t&limit=500",
        "after=earliest&topic=t&limit=000000001",
        f"after={2**53 - 1}-{2**53 - 1}&topic=t",
    ]
    for query in queries:
        page = site.page(everything, query)
        assert (page.status, page.json()["events"]) == (200, []), query
    assert site.traces() == before


def test_a_prefix_is_what_it_says(site: Site) -> None:
    """`gmail:ann*` allows Anna's mailbox too: whoever means one mailbox names it, or ends with the at sign."""
    for prefix, allowed in (("gmail:ann*", [ANNAS, TOPIC]), ("gmail:ann@*", [TOPIC])):
        token = own(topics=[prefix])
        for topic in (TOPIC, ANNAS, BOBS):
            status = 200 if topic in allowed else 403
            assert site.page(token, f"after=earliest&topic={topic}").status == status


def test_no_page_of_another_origin_may_read_anything(site: Site, before: dict[str, str]) -> None:
    """Neither what is good nor what is refused; the listed origin may, by its name and without credentials."""
    for endpoint in ENDPOINTS:
        good = acked(site.positions[0], "tab") if endpoint is ACK else None
        for token, status in ((own(), 204 if endpoint is ACK else 200), ("x", 401)):
            for origin in ("null", "https://evil.example", f"{ORIGIN}.evil.example", "*", ""):
                request = endpoint.request(token, body=good, headers={"origin": origin})
                answer = site.send(endpoint.path, request)
                assert answer.status == status
                assert not any(name.startswith("access-control-allow-") for name in answer.headers)
            request = endpoint.request(token, body=good, headers={"origin": ORIGIN})
            headers = site.send(endpoint.path, request).headers
            assert headers["access-control-allow-origin"] == ORIGIN
            assert headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in headers
    assert site.traces() == before


# -- acks that are taken


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def own_site(gateway: GatewayProcess, stage: str) -> Iterator[LambdaFunction]:
    """Give the replay function on a stage that a test may change."""
    with deployed("functions.replay.handler", environment(gateway, stage)) as replay:
        yield replay


def kept(gateway: GatewayProcess, stage: str, user: str, client: str = "tab") -> str | None:
    """Return the cursor that is kept for a client."""
    found: str | None = redis_command(gateway, "GET", Keys(stage).ack(user, client))
    return found


@pytest.fixture
def position(own_site: LambdaFunction, gateway: GatewayProcess, stage: str) -> str:
    """Give a cursor that Ann's tab has acknowledged."""
    return seed(gateway, stage, own_site)[0]


def send_ack(replay: LambdaFunction, body: bytes, **changed: Any) -> int:
    request = ACK.request(own(**changed), body=body)
    return replay.invoke("POST", "/ack", headers=request.headers, body=body, encoded=True).status


def test_an_ack_that_is_replayed_or_older_changes_nothing(
    own_site: LambdaFunction, gateway: GatewayProcess, stage: str, position: str
) -> None:
    """204, and the cursor is the same."""
    before = traces(gateway, stage)
    for cursor in (position, "0-0", "1-1", position):
        assert send_ack(own_site, acked(cursor, "tab")) == 204
        assert kept(gateway, stage, "ann") == position
    assert traces(gateway, stage) == before


@pytest.mark.parametrize("user", ["bob", "ANN", "ann ", "ann:tab", digest("ann"), "\u0430nn", "*"])
def test_nobody_acknowledges_for_another_user(
    own_site: LambdaFunction, gateway: GatewayProcess, stage: str, position: str, user: str
) -> None:
    """Another user's client of the same name is another client: one key more, and Ann's as it was."""
    before = traces(gateway, stage)
    assert send_ack(own_site, acked("1-1", "tab"), sub=user) == 204
    assert kept(gateway, stage, "ann") == position
    after = traces(gateway, stage)
    assert after.keys() - before.keys() == {Keys(stage).ack(user, "tab")}
    assert {name: after[name] for name in before} == before


def test_an_ack_for_no_topic_of_ones_own_reaches_no_other_log(
    own_site: LambdaFunction, gateway: GatewayProcess, stage: str, position: str
) -> None:
    """What a user may follow says nothing of what it acknowledges: only its own cursor moves."""
    before = traces(gateway, stage)
    assert send_ack(own_site, acked(position, "tab"), sub="eve", topics=["nothing"]) == 204
    after = traces(gateway, stage)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {Keys(stage).ack("eve", "tab")}


def test_of_members_that_come_twice_the_last_one_counts(
    own_site: LambdaFunction, gateway: GatewayProcess, stage: str, position: str
) -> None:
    """Also if the first was bad; what counts is checked like any other."""
    body = f'{{"cursor":"x","client":"../tab","cursor":"{position}","client":"second"}}'.encode()
    assert send_ack(own_site, body) == 204
    assert kept(gateway, stage, "ann", "second") == position
    ahead = f'{{"cursor":"{position}","client":"third","cursor":"{LATER}"}}'.encode()
    assert send_ack(own_site, ahead) == 409
    assert kept(gateway, stage, "ann", "third") is None


def test_a_revoked_user_gets_a_new_token_and_is_served(
    own_site: LambdaFunction, gateway: GatewayProcess, stage: str, position: str
) -> None:
    """Revocation stops the tokens, not the user; that of Ann's goes on all the while."""
    old, new = int(time.time()) - HOUR, int(time.time()) + 5
    assert send_ack(own_site, acked(position, "tab"), sub=REVOKED, iat=old) == 401
    assert kept(gateway, stage, REVOKED) is None
    assert send_ack(own_site, acked(position, "tab"), iat=old) == 204
    assert send_ack(own_site, acked(position, "tab"), sub=REVOKED, iat=new) == 204
    assert kept(gateway, stage, REVOKED) == position


# -- what no event of Lambda's can say


def framed(*lines: str, body: bytes = b"", target: str = "/ack") -> bytes:
    """Write a POST with a good token and these header lines."""
    head = [f"POST {target} HTTP/1.1", "host: x", "connection: close", f"authorization: Bearer {own()}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def secret_of(sent: bytes) -> str:
    """Return the token of what `framed` wrote, if there is one."""
    return sent.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode()


def chunks(*parts: bytes) -> bytes:
    """Write a chunked body (RFC 9112, section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKED = "transfer-encoding: chunked"
SMALL = acked()

# The application's own refusals, over HTTP.
FRAMINGS: dict[str, tuple[Refusal, Callable[[], bytes]]] = {
    "5,000 bytes in chunks": (TOO_LARGE, lambda: framed(CHUNKED, body=chunks(*[b" " * 100] * 50))),
    "5,000 chunks of a byte": (TOO_LARGE, lambda: framed(CHUNKED, body=chunks(*[b" "] * 5000))),
    "one chunk of a megabyte": (TOO_LARGE, lambda: framed(CHUNKED, body=chunks(b"[" * 2**20))),
    "chunks without an end": (TOO_LARGE, lambda: framed(CHUNKED, body=chunks(b" " * 5000)[:-5])),
    "a gigabyte announced, 5,000 bytes sent": (
        TOO_LARGE,
        lambda: framed("content-length: 1073741824", body=b" " * 5000),
    ),
    "fewer bytes announced than sent": (BAD_BODY, lambda: framed("content-length: 10", body=SMALL)),
    "no bytes announced": (BAD_BODY, lambda: framed("content-length: 0", body=SMALL)),
    "no length at all": (BAD_BODY, lambda: framed(body=SMALL)),
    "an empty body in chunks": (BAD_BODY, lambda: framed(CHUNKED, body=chunks())),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_body_that_lies_about_its_length_is_refused(
    site: Site, before: dict[str, str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once: nothing more is waited for than what the refusal needs."""
    refusal, make = FRAMINGS[name]
    sent = make()
    head, body_begins, body = exchange(site.replay_over_http.port, sent).partition(b"\r\n\r\n")
    # What stands behind a body that is too short is no request, and its answer may follow.
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer = answer_of(head + body_begins + body[:length])
    check_refused(answer, refusal)
    assert site.traces() == before
    check_silent(site, Request("POST", "/ack", secret=secret_of(sent)), answer, caplog)


# Refused by the server before the application sees it.
MALFORMED: dict[str, Callable[[], bytes]] = {
    "a length and chunks": lambda: framed(f"content-length: {len(SMALL)}", CHUNKED, body=chunks(SMALL)),
    "two lengths": lambda: framed("content-length: 0", f"content-length: {len(SMALL)}", body=SMALL),
    "a length below zero": lambda: framed("content-length: -1", body=SMALL),
    "a length with a sign": lambda: framed(f"content-length: +{len(SMALL)}", body=SMALL),
    "a length in letters": lambda: framed("content-length: many", body=SMALL),
    "a chunk's size that is no number": lambda: framed(CHUNKED, body=b"x\r\n" + SMALL),
    "a chunk's size beyond all numbers": lambda: framed(CHUNKED, body=b"f" * 30 + b"\r\n" + SMALL),
    "a header without a colon": lambda: framed("evil"),
    "a header with a blank before its colon": lambda: framed("content-length : 5", body=SMALL),
    "a NUL in a header": lambda: framed("x-evil: a\0b"),
    "a NUL in the target": lambda: framed(target="/ack\0"),
    "a version that there is not": lambda: framed().replace(b"HTTP/1.1", b"HTTP/9.9"),
    "a method that there is not": lambda: framed().replace(b"POST", b"EVIL"),
    "the greeting of TLS": lambda: bytes.fromhex("16030100c8010000c40303") + b"\0" * 200,
    "a command of Redis": lambda: b"*1\r\n$8\r\nFLUSHALL\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("served", ["events", "replay"])
def test_what_is_no_request_is_refused_by_the_server(
    site: Site, before: dict[str, str], served: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400, the connection ends, and the next client is served."""
    port = site.events.port if served == "events" else site.replay_over_http.port
    sent = MALFORMED[name]()
    received = exchange(port, sent)
    assert received.startswith(b"HTTP/1.1 400 "), received
    assert http_request(port, "GET", "/healthz").status == 200
    assert site.traces() == before
    check_silent(site, Request("POST", "/ack", secret=secret_of(sent)), None, caplog)


def test_a_client_that_leaves_before_its_body_is_complete_has_acknowledged_nothing(
    site: Site, before: dict[str, str]
) -> None:
    """The whole ack has come, but not all that was announced."""
    sent = framed(f"content-length: {len(SMALL) + 1}", body=SMALL)
    assert exchange(site.replay_over_http.port, sent, half_closed=True) == b""
    assert http_request(site.replay_over_http.port, "GET", "/healthz").status == 200
    assert site.traces() == before


def test_of_two_tokens_the_first_counts(site: Site, before: dict[str, str]) -> None:
    """Two headers: a good one behind a bad one does not help it."""
    sent = framed(f"content-length: {len(SMALL)}", body=SMALL)
    forged = sent.replace(b"host: x", b"host: x\r\nauthorization: Bearer x")
    check_refused(answer_of(exchange(site.replay_over_http.port, forged)), INVALID)
    forged = framed(target="/events").replace(b"POST", b"GET").replace(b"host: x", b"authorization: Bearer x")
    check_refused(answer_of(exchange(site.events.port, forged)), INVALID)
    assert site.traces() == before
