"""`tidemark doctor` on a deployment's addresses: whose answers these are, and whether the stream streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from infra.checks import clients
from tests.support.command import Command, Ran
from tests.support.doctor import findings, one
from tests.support.gateway import GatewayProcess, free_port
from tests.support.lambda_events import TOKEN_KEY, environment
from tests.support.log_rig import own_stage
from tests.support.scripted_server import Connection, ScriptedServer

PAGE = "https://app.example.com"
HELLO = b'retry: 2000\n\nid: 1-0\nevent: tidemark.hello\ndata: {"connection":"c"}\n\n'
BYE = b'retry: 1000\n\nevent: tidemark.bye\ndata: {"reason":"unavailable","reconnect":true}\n\n'
FORBIDDEN = b'{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: \xe2\x80\xa6"}'
ALLOWED = f"Access-Control-Allow-Origin: {PAGE}\r\n"

Part = Callable[[Connection], Awaitable[None]]


def answering(status: str, kind: str, body: bytes, head: str = "") -> Part:
    """Give what answers at once and whole."""

    async def part(connection: Connection) -> None:
        lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{head}\r\n"
        await connection.send(lines.encode() + body)

    return part


def problem(status: str, code: str) -> Part:
    """Give one of our own errors."""
    body = json.dumps({"type": "about:blank", "title": "t", "status": int(status[:3]), "code": code, "detail": "d"})
    return answering(status, "application/problem+json", body.encode())


def streaming(*chunks: bytes, kind: str = "text/event-stream", head: str = ALLOWED, stays: bool = True) -> Part:
    """Give what sends these, and then nothing until the client leaves; or ends."""

    async def part(connection: Connection) -> None:
        lines = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{head}\r\n"
        await connection.send(lines.encode())
        for chunk in chunks:
            await connection.chunk(chunk)
        if stays:
            await connection.left()
        await connection.chunk(b"")

    return part


async def silent(connection: Connection) -> None:
    """Hold everything back, as an URL that buffers does until the function has ended."""
    await connection.left()


HEALTHY = answering("200 OK", "application/json", b'{"status":"ok","checks":{}}')
WELL: Mapping[str, Part] = {
    "/healthz": HEALTHY,
    "/push": problem("401 Unauthorized", "token_missing"),
    "/events": streaming(HELLO),
    "/replay": answering(
        "200 OK", "application/json", b'{"events":[],"cursor":"0-0","more":false,"gaps":[]}', ALLOWED
    ),
}
Requests = list[tuple[str, Mapping[str, str]]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a cold start here."""
    monkeypatch.setattr(clients, "HELLO_S", 0.4)
    monkeypatch.setattr(clients, "_OPEN_S", 0.1)


async def visited(
    command: Command,
    gateway: GatewayProcess,
    parts: Mapping[str, Part],
    *names: str,
    requests: Requests | None = None,
    **settings: str,
) -> Ran:
    """Run doctor against a deployment of which each named function answers by these parts."""

    async def answer(connection: Connection) -> None:
        while True:
            first, _ = await connection.request()
            target = first.split()[1]
            if requests is not None:
                requests.append((target, connection.headers))
            await {**WELL, **parts}[urlsplit(target).path](connection)

    async with ScriptedServer.running(answer) as server:
        urls = {f"TIDEMARK_{name.upper()}_URL": server.url for name in names}
        log = environment(gateway, own_stage(), TIDEMARK_CORS_ORIGINS=f"{PAGE},https://b.example.com")
        auth = {"TIDEMARK_PUSH_AUTH": "on", "TIDEMARK_PUSH_AUDIENCE": "a", "TIDEMARK_PUSH_SERVICE_ACCOUNT": "a@b.c"}
        keys = {"TIDEMARK_PUSH_JWKS_URL": f"http://127.0.0.1:{free_port()}/keys"}
        return await asyncio.to_thread(command, "doctor", settings={**log, **auth, **keys, **urls, **settings})


async def test_a_good_deployment_is_found_well_and_left_in_peace(gateway: GatewayProcess, command: Command) -> None:
    """Asked with a token that lives for a minute, for a topic and by a name of doctor's own, as a page would ask."""
    requests: Requests = []
    ran = await visited(command, gateway, {}, "webhook", "stream", "browser", requests=requests)
    told = {what.partition(": ")[0]: level for what, (level, _) in findings(ran).items()}
    names = ("webhook", "stream", "push", "browser's stream", "browser's replay")
    assert {name: told.get(name) for name in names} == dict.fromkeys(names, "ok")
    assert "replay" not in told
    (opened, _) = [headers for target, headers in requests if target.startswith("/events")]
    assert (opened["origin"], opened["accept"]) == (PAGE, "text/event-stream")
    claims = jwt.decode(opened["authorization"].split()[1], TOKEN_KEY, ["HS256"], audience="tidemark")
    assert claims["exp"] - claims["iat"] == 60
    targets = [urlsplit(target) for target, _ in requests]
    (name,) = {parse_qs(target.query)["client"][0] for target in targets if target.path == "/events"}
    assert (claims["sub"], claims["topics"], name[:7]) == (name, [f"doctor:{name}"], "doctor-")
    (pushed,) = [headers for target, headers in requests if target == "/push"]
    assert "authorization" not in pushed


async def test_an_origin_that_only_browsers_use_takes_no_pushes(gateway: GatewayProcess, command: Command) -> None:
    """It has no webhook behind it."""
    requests: Requests = []

    async def answer(connection: Connection) -> None:
        while True:
            first, _ = await connection.request()
            requests.append((first, connection.headers))
            await WELL[urlsplit(first.split()[1]).path](connection)

    async with ScriptedServer.running(answer) as server:
        settings = environment(gateway, own_stage(), TIDEMARK_BROWSER_URL=server.url, TIDEMARK_CORS_ORIGINS=PAGE)
        settings |= {
            "TIDEMARK_PUSH_AUTH": "on",
            "TIDEMARK_PUSH_AUDIENCE": "a",
            "TIDEMARK_PUSH_SERVICE_ACCOUNT": "a@b.c",
        }
        settings["TIDEMARK_PUSH_JWKS_URL"] = f"http://127.0.0.1:{free_port()}/keys"
        ran = await asyncio.to_thread(command, "doctor", "--url", server.url, settings=settings)
    told = {what.partition(": ")[0]: level for what, (level, _) in findings(ran).items()}
    assert (told["origin"], told["stream"], told["replay"], "push" in told) == ("ok", "ok", "ok", False)
    assert not [first for first, _ in requests if first.startswith("POST")]


@pytest.mark.parametrize(
    ("answer", "fix"),
    [
        (answering("403 Forbidden", "application/json", FORBIDDEN), "Lambda lets nobody in: the URL's AuthType"),
        (answering("404 Not Found", "application/json", b'{"Message":null}'), "nothing is deployed there"),
        (
            answering("429 Too Many Requests", "application/json", b'{"Reason":"x"}'),
            "Lambda has no place for one more",
        ),
        (answering("502 Bad Gateway", "application/json", b"Internal Server Error"), "the function fails: its log"),
        (
            answering(
                "503 Service Unavailable", "application/json", b'{"status":"unavailable","checks":{"log":"x"}}'
            ),
            "see its logs",
        ),
    ],
    ids=["forbidden", "nothing there", "throttled", "fails", "ours"],
)
async def test_who_answers_instead_of_the_function_is_told_apart(
    gateway: GatewayProcess, command: Command, answer: Part, fix: str
) -> None:
    """By what it answers to /healthz; nothing else is asked of that function then."""
    requests: Requests = []
    ran = await visited(command, gateway, {"/healthz": answer}, "stream", requests=requests)
    assert [target for target, _ in requests] == ["/healthz"]
    level, what, told = one(ran, "stream")
    assert (ran.code, level, told.startswith(fix)) == (1, "FAIL", True), (what, told)


async def test_an_address_where_nobody_is_is_told(gateway: GatewayProcess, command: Command) -> None:
    """The others are looked at all the same."""
    away = f"http://127.0.0.1:{free_port()}"
    ran = await visited(command, gateway, {}, "replay", TIDEMARK_STREAM_URL=away)
    assert one(ran, "stream")[1].endswith("does not answer (ConnectError)")
    assert findings(ran)["replay: answers, with 0 events of a topic of its own"][0] == "ok"


@pytest.mark.parametrize(
    ("answer", "level", "what", "fix"),
    [
        (HEALTHY, "FAIL", "takes pushes from anybody", "set TIDEMARK_PUSH_AUTH=on"),
        (answering("401 Unauthorized", "text/html", b"<html>"), "FAIL", "answers 401: <html>", "see its logs"),
        (answering("403 Forbidden", "application/json", FORBIDDEN), "FAIL", "answers 403: ", "Lambda lets nobody in"),
        (problem("429 Too Many Requests", "rate_limited"), "warn", "has been refused too often", "look again"),
    ],
    ids=["open", "not ours", "forbidden", "limited"],
)
async def test_a_push_without_a_token_must_be_refused_by_the_webhook(
    gateway: GatewayProcess, command: Command, answer: Part, level: str, what: str, fix: str
) -> None:
    """With 401 and a code of ours."""
    told = one(await visited(command, gateway, {"/push": answer}, "webhook"), "push")
    assert (told[0], what in told[1], told[2].startswith(fix)) == (level, True, True), told


async def test_no_push_is_sent_where_they_need_no_token(gateway: GatewayProcess, command: Command) -> None:
    """It would be parked as a dead letter."""
    requests: Requests = []
    await visited(command, gateway, {}, "webhook", requests=requests, TIDEMARK_PUSH_AUTH="off")
    assert [target for target, _ in requests] == ["/healthz"]


TWICE = f"{ALLOWED}{ALLOWED}"
STREAMS = {
    "buffered": (silent, "sends nothing, and no hello within 0.4 s", "somebody holds the answer back: on Lambda"),
    "buffered after its head": (streaming(), "sends a head, and no hello within", "somebody holds the answer back"),
    "sent at its end": (
        streaming(HELLO, stays=False),
        "ends right after its hello",
        "somebody holds the answer back",
    ),
    "empty": (streaming(stays=False), "ends without a word", "somebody holds the answer back"),
    "another type": (streaming(HELLO, kind="text/plain"), "sends text/plain and no event st", "browsers end such a"),
    "log away": (streaming(BYE, stays=False), "says goodbye at once: unavailable", "see what /healthz"),
    "another key": (
        problem("401 Unauthorized", "token_key_unknown"),
        "answers 401: ",
        "are TIDEMARK_TOKEN_KEYS here",
    ),
    "throttled": (answering("429 No", "application/json", b"{}"), "answers 429: {}", "Lambda has no place for one"),
    "two owners of CORS": (streaming(HELLO, head=TWICE), "-Allow-Origin comes 2 times", "turn CORS off on the fun"),
    "two in one line": (
        streaming(HELLO, head=f"{ALLOWED[:-2]}, *\r\n"),
        "-Allow-Origin comes 2 times",
        "turn CORS off on the function URL",
    ),
    "no CORS": (streaming(HELLO, head=""), f"pages of {PAGE} may not read it (no header)", "are TIDEMARK_CORS_O"),
}


@pytest.mark.parametrize(("answer", "what", "fix"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_that_browsers_could_not_use_is_told_with_why(
    gateway: GatewayProcess, command: Command, answer: Part, what: str, fix: str
) -> None:
    """1; and the token is not shown."""
    ran = await visited(command, gateway, {"/events": answer}, "stream")
    level, told, advice = one(ran, "stream")
    assert (ran.code, level, what in told, advice.startswith(fix)) == (1, "FAIL", True, True), (told, advice)
    assert "eyJ" not in ran.out


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (problem("401 Unauthorized", "token_key_unknown"), "answers 401: "),
        (answering("200 OK", "text/html", b"<html>"), "does not answer (JSONDecodeError)"),
        (
            answering("200 OK", "application/json", b'{"events":[]}', TWICE),
            "Access-Control-Allow-Origin comes 2 times",
        ),
    ],
    ids=["another key", "a page", "two owners of CORS"],
)
async def test_a_replay_that_browsers_could_not_use_is_told(
    gateway: GatewayProcess, command: Command, answer: Part, what: str
) -> None:
    """As of the stream."""
    level, told, _ = one(await visited(command, gateway, {"/replay": answer}, "replay"), "replay")
    assert (level, what in told) == ("FAIL", True), told


async def test_without_settings_only_health_is_looked_at(command: Command) -> None:
    """And it is told why the stream was not opened."""

    async def answer(connection: Connection) -> None:
        while True:
            await connection.request()
            await HEALTHY(connection)

    async with ScriptedServer.running(answer) as server:
        ran = await asyncio.to_thread(command, "doctor", "--url", server.url)
    assert findings(ran)[f"origin: {server.url} is healthy"] == ("ok", "")
    assert one(ran, "stream")[0] == "warn"
