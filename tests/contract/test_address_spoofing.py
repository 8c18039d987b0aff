"""Whose limit a request falls under, whatever it says of itself: over real sockets, and as Lambda hands it over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from functions.stream import app as stream
from functions.webhook import app as webhook
from infra.local.mail import push_body
from shared.keys import Keys
from shared.settings import Function
from shared.start import Basis
from shared.tokens import mint
from tests.support.client_attacks import (
    HttpServer,
    answer_of,
    basis_of,
    exchange,
    http_request,
    invoke_from,
    published,
    request_bytes,
)
from tests.support.gateway import GatewayProcess
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
    Answer,
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    redis_command,
)
from tests.support.limits import LimitClock, check_limited
from tests.support.log_rig import own_stage
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, push_token

BOX = "ann@example.com"
LIMIT = 3
BYPASS = "b" * 32
GOOGLE = Issuer.rsa("google-1")
REAL_TIME = time.time
LOOPBACK = "127.0.0.0/8"

Headers = Mapping[str, str | bytes]
#: Pushes something that does not verify with these header fields, over HTTP.
Knock = Callable[[Headers], Answer]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> LimitClock:
    return LimitClock(monkeypatch)


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture(scope="module")
def key_set() -> Iterator[str]:
    with published(GOOGLE.jwk()) as url:
        yield url


def settings(gateway: GatewayProcess, stage: str, key_set: str, **changed: str) -> dict[str, str]:
    return environment(
        gateway,
        stage,
        TIDEMARK_PUSH_AUTH="on",
        TIDEMARK_PUSH_AUDIENCE=PUSH_AUDIENCE,
        TIDEMARK_PUSH_SERVICE_ACCOUNT=PUSH_ACCOUNT,
        TIDEMARK_PUSH_JWKS_URL=key_set,
        TIDEMARK_PUSH_LIMIT=str(LIMIT),
        TIDEMARK_BYPASS_SECRET=BYPASS,
        **changed,
    )


def genuine_headers() -> dict[str, str]:
    return {"authorization": f"Bearer {push_token(GOOGLE, REAL_TIME())}"}


def push_json(message_id: str = "m-1") -> bytes:
    return json.dumps(push_body(BOX, 4711, message_id)).encode()


@pytest.fixture
def serving(gateway: GatewayProcess, stage: str, key_set: str) -> Iterator[Callable[..., tuple[Knock, Basis]]]:
    """Serve the webhook over HTTP with these settings besides."""
    with ExitStack() as servers:

        def serve(**changed: str) -> tuple[Knock, Basis]:
            basis = basis_of(settings(gateway, stage, key_set, **changed), Function.WEBHOOK)
            app = webhook.build_app(webhook.Deps.of(basis))
            port = servers.enter_context(HttpServer.running(app, basis))
            return lambda headers: http_request(port, "POST", "/push", headers, push_json()), basis

        yield serve


def passed(knock: Knock, headers: Headers, most: int = 10) -> int:
    """Knock until it is refused; return how many times it was let through to the 401 of a stranger."""
    for number in range(most):
        answer = knock(headers)
        if answer.status == 429:
            check_limited(answer, "unverified", LIMIT)
            return number
        check_problem(answer, 401, "token_missing")
    return most


# -- over HTTP, without a proxy


SPOOFED: list[Headers] = [
    {"x-forwarded-for": "198.51.100.1"},
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-for": "66.102.0.1, 127.0.0.1"},
    {"forwarded": "for=198.51.100.2;proto=https"},
    {"x-real-ip": "198.51.100.3"},
    {"x-client-ip": "198.51.100.4"},
    {"true-client-ip": "198.51.100.5"},
    {"cf-connecting-ip": "198.51.100.6"},
    {"cloudfront-viewer-address": "198.51.100.7:443"},
    {"x-original-forwarded-for": "198.51.100.8"},
    {"x-cluster-client-ip": "198.51.100.9"},
    {"x-forwarded-host": "other.example", "host": "other.example"},
    {"x-forwarded-for": b"\xff\xfe, \x80"},
    {"x-forwarded-for": "1.2.3.4," * 3000},
    {},
]


def test_what_a_stranger_says_of_its_address_changes_nothing(serving: Callable[..., tuple[Knock, Basis]]) -> None:
    """One address, one limit: each of these meets it, and none gets a limit of its own."""
    knock, basis = serving()
    assert passed(knock, {}) == LIMIT
    for headers in SPOOFED:
        check_limited(knock(headers), "unverified", LIMIT)
    assert basis.counts.snapshot()["unverified_over"] == 1
    assert basis.counts.snapshot()["unverified_denied"] == len(SPOOFED)


# -- over HTTP, behind a proxy of ours


def test_behind_a_proxy_each_address_that_it_reports_has_its_own_limit(
    serving: Callable[..., tuple[Knock, Basis]],
) -> None:
    """It is the last hop that the proxy has seen; what stands before it was written by the stranger."""
    knock, _ = serving(TIDEMARK_TRUSTED_PROXIES=LOOPBACK)
    assert passed(knock, {"x-forwarded-for": "198.51.100.1"}) == LIMIT
    for forged in ("6.6.6.6, 198.51.100.1", "127.0.0.1,198.51.100.1", " 198.51.100.1 ", "198.51.100.1:4711"):
        assert passed(knock, {"x-forwarded-for": forged}) == 0
    assert passed(knock, {"x-forwarded-for": "198.51.100.1, 127.0.0.9"}) == 0  # two of our proxies in a row
    assert passed(knock, {"x-forwarded-for": "::ffff:198.51.100.1"}) == 0
    assert passed(knock, {"x-forwarded-for": "198.51.100.1, 198.51.100.2"}) == LIMIT


def test_a_network_of_ipv6_is_one_customer(serving: Callable[..., tuple[Knock, Basis]]) -> None:
    """A /64 has more addresses than any limit could count."""
    knock, _ = serving(TIDEMARK_TRUSTED_PROXIES=LOOPBACK)
    assert passed(knock, {"x-forwarded-for": "2001:db8:1:2::1"}) == LIMIT
    for address in ("2001:db8:1:2::2", "2001:db8:1:2:ffff:ffff:ffff:ffff", "[2001:db8:1:2::3]:443", "2001:DB8:1:2::"):
        assert passed(knock, {"x-forwarded-for": address}) == 0
    assert passed(knock, {"x-forwarded-for": "2001:db8:1:3::1"}) == LIMIT


def test_a_hop_that_cannot_be_read_counts_as_the_proxy_itself(serving: Callable[..., tuple[Knock, Basis]]) -> None:
    """All who hide their address behind one proxy share one limit, and cannot leave it by naming others."""
    knock, _ = serving(TIDEMARK_TRUSTED_PROXIES=LOOPBACK)
    assert passed(knock, {"x-forwarded-for": "unknown"}) == LIMIT
    hidden: list[str | bytes] = [
        "198.51.100.9, _hidden",
        "",
        b"\xff",
        "198.51.100.1 198.51.100.2",
        "1.2.3",
        "01.2.3.4",
    ]
    for value in hidden:
        assert passed(knock, {"x-forwarded-for": value}) == 0
    assert passed(knock, {}) == 0
    assert passed(knock, {"x-forwarded-for": "198.51.100.9"}) == LIMIT


# -- the bypass header


WRONG: list[str | bytes] = [
    "",
    "b",
    "b" * 31,
    "b" * 33,
    "B" * 32,
    "b" * 31 + "c",
    "c" + "b" * 31,
    f"{BYPASS},{BYPASS}",
    f"Bearer {BYPASS}",
    b"\xff" * 32,
    "b" * 31 + "\u0253",
    "b" * 20_000,
]


def test_only_the_secret_itself_bypasses_a_limit(serving: Callable[..., tuple[Knock, Basis]]) -> None:
    """Each try is counted, the good and the bad; the bypass is no token, either."""
    knock, basis = serving()
    assert passed(knock, {}) == LIMIT
    for value in WRONG:
        check_limited(knock({"x-tidemark-bypass": value}), "unverified", LIMIT)
    assert basis.counts.snapshot()["bypass_refused"] == len(WRONG)
    assert "bypass_used" not in basis.counts.snapshot()
    for _ in range(2 * LIMIT):
        check_problem(knock({"x-tidemark-bypass": BYPASS}), 401, "token_missing")
    assert basis.counts.snapshot()["bypass_used"] == 2 * LIMIT


def test_of_two_bypass_headers_the_first_counts(gateway: GatewayProcess, stage: str, key_set: str) -> None:
    """A good one behind a bad one does not help it."""
    basis = basis_of(settings(gateway, stage, key_set), Function.WEBHOOK)
    with HttpServer.running(webhook.build_app(webhook.Deps.of(basis)), basis) as port:
        assert passed(lambda headers: http_request(port, "POST", "/push", headers, push_json()), {}) == LIMIT
        sent = request_bytes("POST", "/push", {"x-tidemark-bypass": "x"}, push_json())
        sent = sent.replace(b"host: ", b"x-tidemark-bypass: " + BYPASS.encode() + b"\r\nhost: ", 1)
        check_problem(answer_of(exchange(port, sent)), 401, "token_missing")
        swapped = request_bytes("POST", "/push", {"x-tidemark-bypass": BYPASS}, push_json())
        swapped = swapped.replace(b"host: ", b"x-tidemark-bypass: x\r\nhost: ", 1)
        check_limited(answer_of(exchange(port, swapped)), "unverified", LIMIT)


# -- as Lambda hands it over


def test_on_lambda_it_is_the_address_that_lambda_reports(gateway: GatewayProcess, stage: str, key_set: str) -> None:
    """Lambda writes who has connected into the event, beside the header fields that anybody can write."""
    with deployed("functions.webhook.handler", settings(gateway, stage, key_set)) as function:
        assert passed(_from(function, "203.0.113.1"), {}) == LIMIT
        assert passed(_from(function, "203.0.113.1"), {"x-forwarded-for": "203.0.113.2"}) == 0
        assert passed(_from(function, "203.0.113.2"), {"x-forwarded-for": "203.0.113.1"}) == LIMIT
        assert passed(_from(function, "2001:db8::1"), {}) == LIMIT
        assert passed(_from(function, "2001:db8::2"), {}) == 0


def test_on_lambda_behind_a_proxy_it_is_the_address_that_the_proxy_reports(
    gateway: GatewayProcess, stage: str, key_set: str
) -> None:
    """And whoever goes around the proxy is known by its own."""
    proxied = settings(gateway, stage, key_set, TIDEMARK_TRUSTED_PROXIES="192.0.2.0/24,2001:db8:ff::/48")
    with deployed("functions.webhook.handler", proxied) as function:
        assert passed(_from(function, "192.0.2.7"), {"x-forwarded-for": "203.0.113.1"}) == LIMIT
        assert passed(_from(function, "192.0.2.8"), {"x-forwarded-for": "6.6.6.6, 203.0.113.1"}) == 0
        assert passed(_from(function, "2001:db8:ff::8"), {"x-forwarded-for": "203.0.113.1"}) == 0
        assert passed(_from(function, "203.0.113.1"), {"x-forwarded-for": "203.0.113.9"}) == 0
        assert passed(_from(function, "203.0.113.5"), {"x-forwarded-for": "203.0.113.9"}) == LIMIT
        assert passed(_from(function, "192.0.2.7"), {"x-forwarded-for": "203.0.113.9"}) == LIMIT


def test_genuine_pushes_come_through_from_an_address_that_is_over_its_limit(
    gateway: GatewayProcess, stage: str, key_set: str
) -> None:
    """Everybody's Pub/Sub shares Google's addresses: whoever floods from there stops nobody's mail."""
    with deployed("functions.webhook.handler", settings(gateway, stage, key_set)) as function:
        knock = _from(function, "203.0.113.1")
        assert passed(knock, {}) == LIMIT
        for number in range(3 * LIMIT):
            answer = invoke_from(
                function,
                "203.0.113.1",
                "POST",
                "/push",
                headers=genuine_headers(),
                body=push_json(f"m-{number}"),
            )
            assert (answer.status, answer.json()["status"]) == (200, "published")
            check_limited(knock({}), "unverified", LIMIT)
    assert redis_command(gateway, "XLEN", Keys(stage).log(f"gmail:{BOX}")) == 3 * LIMIT


def _from(function: LambdaFunction, address: str) -> Knock:
    def knock(headers: Headers) -> Answer:
        texts = {
            name: value if isinstance(value, str) else value.decode("latin-1") for name, value in headers.items()
        }
        return invoke_from(function, address, "POST", "/push", headers=texts, body=push_json())

    return knock


# -- streams: by user, not by address


def test_a_user_may_open_so_many_streams_a_minute_from_wherever(gateway: GatewayProcess, stage: str) -> None:
    """Another user behind the same address has a limit of its own; the bypass works there, too."""
    limited = environment(
        gateway,
        stage,
        TIDEMARK_CLIENT_LIMIT=str(LIMIT),
        TIDEMARK_TRUSTED_PROXIES=LOOPBACK,
        TIDEMARK_BYPASS_SECRET=BYPASS,
    )
    basis = basis_of(limited, Function.STREAM)
    with HttpServer.running(stream.build_app(stream.Deps.of(basis)), basis) as port:

        def opens(user: str, **headers: str) -> Answer:
            token = mint(user, [f"gmail:{BOX}"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=REAL_TIME())
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = request_bytes("GET", "/events", {"authorization": f"Bearer {token}", **given})
            return answer_of(exchange(port, sent, until=b"tidemark.hello"))

        assert [opens("ann", x_forwarded_for=f"203.0.113.{n}").status for n in range(LIMIT)] == [200] * LIMIT
        for number in range(LIMIT):
            check_limited(opens("ann", x_forwarded_for=f"198.51.100.{number}"), "opens", LIMIT)
        assert opens("ben").status == 200
        assert opens("ann", x_tidemark_bypass=BYPASS).status == 200
        check_limited(opens("ann", x_tidemark_bypass="wrong"), "opens", LIMIT)
