"""Attacks on `GET /events`, `GET /replay` and `POST /ack`: each by its name, with the refusal that it must get."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, quote_from_bytes

from shared.keys import digest
from tests.support.client_attacks import (
    hmac_token,
    unsigned_token,
)
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
)
from tests.support.signing import Issuer, given, push_claims

ANN, ANNA, BOB = "ann@example.com", "anna@example.com", "bob@example.com"
TOPIC, ANNAS, BOBS = f"gmail:{ANN}", f"gmail:{ANNA}", f"gmail:{BOB}"
ORIGIN = "https://app.example"
OTHER_KID, OTHER_KEY = "test-2", "o" * 32
PROVIDER, CURVE = Issuer.rsa("provider-1"), Issuer.ec("provider-2")
FORGER = Issuer.rsa("forger")
REVOKED = "rita"
HOUR, DAY = 3600, 24 * 3600
LATER = "9000000000000-0"
"""A cursor far beyond the clock of any log."""


class Refusal(NamedTuple):
    status: int
    code: str


MISSING, INVALID = Refusal(401, "token_missing"), Refusal(401, "token_invalid")
EXPIRED, TOKEN_REVOKED = Refusal(401, "token_expired"), Refusal(401, "token_revoked")
UNKNOWN, FORBIDDEN = Refusal(401, "token_key_unknown"), Refusal(403, "topic_forbidden")
BAD_TOPIC, TOO_MANY = Refusal(400, "bad_topic"), Refusal(400, "too_many_topics")
TOPIC_REQUIRED, BAD_CURSOR = Refusal(400, "topic_required"), Refusal(400, "bad_cursor")
BAD_CLIENT, BAD_NUMBER = Refusal(400, "bad_client"), Refusal(400, "bad_number")
BAD_BODY, TOO_LARGE = Refusal(400, "bad_body"), Refusal(413, "body_too_large")
AHEAD, CORS_REFUSED = Refusal(409, "cursor_ahead"), Refusal(400, "cors_refused")
HEADERS_TOO_LARGE, QUERY_TOO_LONG = Refusal(431, "headers_too_large"), Refusal(414, "query_too_long")
NOT_FOUND, NOT_ALLOWED = Refusal(404, "not_found"), Refusal(405, "method_not_allowed")


# -- what is sent


def claims(**changed: Any) -> dict[str, Any]:
    """Return what a good token of Ann's says, with changes; ``...`` leaves a claim out."""
    now = int(time.time())
    return given({"sub": "ann", "topics": [TOPIC], "aud": "tidemark", "iat": now, "exp": now + 600}, changed)


def own(**changed: Any) -> str:
    """Sign a token of Ann's with our key, but for the changes to its claims."""
    return hmac_token(claims(**changed), key=TOKEN_KEY, kid=KID)


def headed(**header: Any) -> str:
    """Sign a token of Ann's whose header is changed; the signature is good for what it says."""
    return hmac_token(claims(), key=TOKEN_KEY, **{"kid": KID, **header})


def at(name: str, after_s: int) -> str:
    """Sign a token of Ann's with a moment so many seconds from now."""
    return own(**{name: int(time.time()) + after_s})


def tampered() -> str:
    """Put Bob's claims under the signature of Ann's."""
    head, _, signature = own().split(".")
    return f"{head}.{own(sub='bob', topics=[BOBS]).split('.')[1]}.{signature}"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``secret`` is what must never be seen of it again."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    secret: str = ""


class Endpoint(NamedTuple):
    """Where clients come to, and what a good request there holds besides its token."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None

    def request(
        self,
        token: str | None = None,
        *,
        authorization: str | None = None,
        query: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> Request:
        """Make a request. Without a token or another ``authorization`` it carries a good token."""
        secret = own() if token is None else token
        authorization = f"Bearer {secret}" if authorization is None else authorization
        return Request(
            method or self.method,
            path or self.path,
            self.query if query is None else query,
            {**({"authorization": authorization} if authorization else {}), **(headers or {})},
            self.body if body is None else body,
            secret,
        )


EVENTS = Endpoint("GET", "/events", "from=earliest&client=intruder")
REPLAY = Endpoint("GET", "/replay", "after=earliest")
ACK = Endpoint("POST", "/ack", body=b'{"cursor":"0-0","client":"intruder"}')
ENDPOINTS = (EVENTS, REPLAY, ACK)


class Attack(NamedTuple):
    refusal: Refusal
    request: Callable[[], Request]


# -- the attacks

# What follows "Bearer", for each endpoint.
TOKENS: dict[str, tuple[Refusal, Callable[[], str]]] = {
    "garbage": (INVALID, lambda: "garbage"),
    "three empty parts": (INVALID, lambda: ".."),
    "five parts, as an encrypted one": (INVALID, lambda: own() + ".x.y"),
    "two tokens in one header": (INVALID, lambda: f"{own()}, Bearer {own()}"),
    "letters beyond ASCII": (INVALID, lambda: "t\u00f6k\u00e9n.t\u00f6k\u00e9n.t\u00f6k\u00e9n"),
    "a token of 16 KiB": (INVALID, lambda: "a" * 16 * 1024),
    "a token of 64 KiB": (HEADERS_TOO_LARGE, lambda: "a" * 64 * 1024),
    "a good token with 16 KiB of claims": (INVALID, lambda: own(note="a" * 16 * 1024)),
    # -- algorithms
    "alg none": (INVALID, lambda: unsigned_token(claims(), alg="none", kid=KID)),
    "alg NONE": (INVALID, lambda: unsigned_token(claims(), alg="NONE", kid=KID)),
    "alg None, and a signature": (INVALID, lambda: headed(alg="None")),
    "alg in lower case": (INVALID, lambda: headed(alg="hs256")),
    "alg that is a list": (INVALID, lambda: headed(alg=["HS256"])),
    "alg that is null": (INVALID, lambda: headed(alg=None)),
    "no alg": (INVALID, lambda: headed(alg=...)),
    "HS512 with our key": (INVALID, lambda: headed(alg="HS512")),
    "HS384 with our key": (INVALID, lambda: headed(alg="HS384")),
    "the provider's key as our secret": (INVALID, lambda: hmac_token(claims(), key=PROVIDER.pem(), kid=KID)),
    "the provider's key as a secret, under its own kid": (
        INVALID,
        lambda: hmac_token(claims(), key=PROVIDER.pem(), kid=PROVIDER.kid),
    ),
    "the provider's modulus as a secret": (
        INVALID,
        lambda: hmac_token(claims(), key=PROVIDER.jwk()["n"], kid=PROVIDER.kid),
    ),
    "our kid under RS256": (UNKNOWN, lambda: PROVIDER.sign(claims(), kid=KID)),
    "RS512 with the provider's key": (INVALID, lambda: PROVIDER.sign(claims(), alg="RS512")),
    "PS256 with the provider's key": (INVALID, lambda: PROVIDER.sign(claims(), alg="PS256")),
    "RS256 with a key for a curve": (INVALID, lambda: PROVIDER.sign(claims(), kid=CURVE.kid)),
    "ES256 with a key for RSA": (INVALID, lambda: CURVE.sign(claims(), kid=PROVIDER.kid)),
    "a curve's signature of zeros": (
        INVALID,
        lambda: unsigned_token(claims(), "A" * 86, alg="ES256", kid=CURVE.kid),
    ),
    # -- keys
    "no signature": (INVALID, lambda: own().rpartition(".")[0] + "."),
    "half a signature": (INVALID, lambda: own()[:-20]),
    "another signature": (INVALID, lambda: own().rpartition(".")[0] + "." + "A" * 43),
    "Bob's claims under Ann's signature": (INVALID, tampered),
    "a secret of one's own": (INVALID, lambda: hmac_token(claims(), key="x" * 32, kid=KID)),
    "the empty secret": (INVALID, lambda: hmac_token(claims(), key="", kid=KID)),
    "the kid of our other key": (INVALID, lambda: headed(kid=OTHER_KID)),
    "a kid that is not configured": (INVALID, lambda: headed(kid="test-3")),
    "no kid, where there are two keys": (INVALID, lambda: headed(kid=...)),
    "a kid that is null": (INVALID, lambda: headed(kid=None)),
    "a kid that is a list": (INVALID, lambda: headed(kid=[KID])),
    "a kid that is a number": (INVALID, lambda: headed(kid=1)),
    "a kid that is an object": (INVALID, lambda: headed(kid={"kid": KID})),
    "a kid that is a path": (INVALID, lambda: hmac_token(claims(), key="", kid="../../../../dev/null")),
    "a kid that is empty": (INVALID, lambda: headed(kid="")),
    "the provider's kid as a list": (INVALID, lambda: PROVIDER.sign(claims(), kid=[PROVIDER.kid])),
    "RS256 without a kid": (INVALID, lambda: PROVIDER.sign(claims(), kid=...)),
    "RS256 with a kid that is a path": (UNKNOWN, lambda: PROVIDER.sign(claims(), kid="../../etc/passwd")),
    "a key that is not published": (UNKNOWN, lambda: FORGER.sign(claims())),
    "another key under the provider's kid": (INVALID, lambda: FORGER.sign(claims(), kid=PROVIDER.kid)),
    "the forger's key in the token": (
        INVALID,
        lambda: FORGER.sign(claims(), kid=PROVIDER.kid, jwk=FORGER.jwk()),
    ),
    "the forger's key in the token, unnamed": (UNKNOWN, lambda: FORGER.sign(claims(), jwk=FORGER.jwk())),
    "a URL of the forger's keys in the token": (
        UNKNOWN,
        lambda: FORGER.sign(claims(), jku="https://evil.example/keys"),
    ),
    "a certificate of the forger's in the token": (
        INVALID,
        lambda: FORGER.sign(claims(), kid=PROVIDER.kid, x5c=["MIIB"], x5u="https://evil.example/cert"),
    ),
    "a critical extension": (INVALID, lambda: headed(crit=["exp"])),
    "a critical extension that nobody knows": (INVALID, lambda: headed(crit=["evil"], evil=True)),
    "Google's token of a push": (UNKNOWN, lambda: Issuer.rsa("google-1").sign(push_claims(time.time()))),
    "a push's claims signed by the provider": (INVALID, lambda: PROVIDER.sign(push_claims(time.time()))),
    # -- claims
    "claims that are no object": (INVALID, lambda: hmac_token(b"[]", key=TOKEN_KEY, kid=KID)),
    "claims that are no JSON": (INVALID, lambda: hmac_token(b"\xff{", key=TOKEN_KEY, kid=KID)),
    "claims that are deep": (INVALID, lambda: hmac_token(b"[" * 5000, key=TOKEN_KEY, kid=KID)),
    "no claims": (INVALID, lambda: hmac_token(b"{}", key=TOKEN_KEY, kid=KID)),
    "no aud": (INVALID, lambda: own(aud=...)),
    "another aud": (INVALID, lambda: own(aud="other")),
    "aud in capitals": (INVALID, lambda: own(aud="TIDEMARK")),
    "aud among others": (INVALID, lambda: own(aud=["tidemark", "other"])),
    "aud alone in a list": (INVALID, lambda: own(aud=["tidemark"])),
    "aud null": (INVALID, lambda: own(aud=None)),
    "no exp": (INVALID, lambda: own(exp=...)),
    "exp null": (INVALID, lambda: own(exp=None)),
    "exp NaN": (INVALID, lambda: own(exp=float("nan"))),
    "exp infinite": (INVALID, lambda: own(exp=float("inf"))),
    "exp beyond all numbers": (INVALID, lambda: own(exp=10**400)),
    "exp as text": (INVALID, lambda: own(exp=str(int(time.time()) + 600))),
    "exp true": (INVALID, lambda: own(exp=True)),
    "exp in milliseconds": (INVALID, lambda: own(exp=(int(time.time()) + 600) * 1000)),
    "exp in more than 24 hours": (INVALID, lambda: at("exp", DAY + HOUR)),
    "exp a minute ago": (EXPIRED, lambda: own(iat=int(time.time()) - HOUR, exp=int(time.time()) - 60)),
    "exp zero": (EXPIRED, lambda: own(exp=0)),
    "exp below zero": (EXPIRED, lambda: own(exp=-1)),
    "no iat": (INVALID, lambda: own(iat=...)),
    "iat NaN": (INVALID, lambda: own(iat=float("nan"))),
    "iat as text": (INVALID, lambda: own(iat="0")),
    "iat false": (INVALID, lambda: own(iat=False)),
    "iat in an hour": (INVALID, lambda: at("iat", HOUR)),
    "nbf in an hour": (INVALID, lambda: at("nbf", HOUR)),
    "nbf NaN": (INVALID, lambda: own(nbf=float("nan"))),
    "nbf as text": (INVALID, lambda: own(nbf="0")),
    "no sub": (INVALID, lambda: own(sub=...)),
    "sub empty": (INVALID, lambda: own(sub="")),
    "sub of 257 characters": (INVALID, lambda: own(sub="a" * 257)),
    "sub with half a pair": (INVALID, lambda: own(sub="ann\ud800")),
    "sub with NUL": (INVALID, lambda: own(sub="ann\0")),
    "sub with a line feed": (INVALID, lambda: own(sub="ann\n")),
    "sub a number": (INVALID, lambda: own(sub=7)),
    "sub a list": (INVALID, lambda: own(sub=["ann"])),
    "sub true": (INVALID, lambda: own(sub=True)),
    "no topics": (INVALID, lambda: own(topics=...)),
    "topics null": (INVALID, lambda: own(topics=None)),
    "topics empty": (INVALID, lambda: own(topics=[])),
    "topics as text": (INVALID, lambda: own(topics=TOPIC)),
    "topics as an object": (INVALID, lambda: own(topics={TOPIC: True})),
    "topics with a number": (INVALID, lambda: own(topics=[TOPIC, 7])),
    "topics with a list": (INVALID, lambda: own(topics=[[TOPIC]])),
    "topics with an empty one": (INVALID, lambda: own(topics=[""])),
    "a token from before the user was revoked": (
        TOKEN_REVOKED,
        lambda: own(sub=REVOKED, iat=int(time.time()) - HOUR),
    ),
}

# The whole Authorization header (none if it is empty), and what else is sent, for each endpoint.
CREDENTIALS: dict[str, tuple[Refusal, Callable[[str], tuple[str, dict[str, str], str]]]] = {
    "no token": (MISSING, lambda _token: ("", {}, "")),
    "an empty token in the query": (MISSING, lambda _token: ("", {}, "token=")),
    "a scheme without credentials": (MISSING, lambda _token: ("Bearer", {}, "")),
    "a scheme and blanks": (MISSING, lambda _token: ("Bearer    ", {}, "")),
    "basic credentials": (MISSING, lambda _token: ("Basic " + base64.b64encode(b"ann:pw").decode(), {}, "")),
    "another scheme": (MISSING, lambda token: (f"JWT {token}", {}, "")),
    "the token without its scheme": (MISSING, lambda token: (token, {}, "")),
    "the scheme joined to its token": (MISSING, lambda token: (f"Bearer:{token}", {}, "")),
    "the token in a cookie": (MISSING, lambda token: ("", {"cookie": f"token={token}"}, "")),
    "the token in another header": (MISSING, lambda token: ("", {"x-forwarded-authorization": token}, "")),
    "the token in another parameter": (MISSING, lambda token: ("", {}, f"access_token={token}")),
    "the parameter in capitals": (MISSING, lambda token: ("", {}, f"TOKEN={token}")),
    "garbage before a good token in the query": (INVALID, lambda token: ("Bearer x", {}, f"token={token}")),
    "a good token in the query, and garbage after it": (INVALID, lambda token: ("", {}, f"token={token}&token=x")),
    "a good token and a line break in the query": (INVALID, lambda token: ("", {}, f"token={token}%0d%0a.x")),
    "bytes that are no text in the query": (INVALID, lambda _token: ("", {}, "token=%ff%fe.%ff.%ff")),
    "a bypass that nobody has configured": (MISSING, lambda _token: ("", {"x-tidemark-bypass": "b" * 32}, "")),
}

# What stands in the query, and the topics of the token.
TOPICS: dict[str, tuple[Refusal, str, list[str]]] = {
    "another mailbox": (FORBIDDEN, f"topic={BOBS}", [TOPIC]),
    "another mailbox beside one's own": (FORBIDDEN, f"topic={TOPIC}&topic={BOBS}", [TOPIC]),
    "a mailbox that begins like one's own": (FORBIDDEN, f"topic={ANNAS}", ["gmail:ann"]),
    "one's own mailbox and more": (FORBIDDEN, f"topic={TOPIC}.evil.example", [TOPIC]),
    "the beginning of one's own mailbox": (FORBIDDEN, "topic=gmail:ann", [TOPIC]),
    "outside the prefix": (FORBIDDEN, f"topic={BOBS}", ["gmail:ann*"]),
    "beyond the end of the prefix": (FORBIDDEN, f"topic={ANNAS}", ["gmail:ann@*"]),
    "the prefix cut short": (FORBIDDEN, "topic=gmail:an", ["gmail:ann*"]),
    "the prefix behind something": (FORBIDDEN, f"topic=x{TOPIC}", ["gmail:ann*"]),
    "a star amid the token's topic": (FORBIDDEN, f"topic={ANNAS}", ["gmail:ann*@example.com"]),
    "a star that begins the token's topic": (FORBIDDEN, f"topic={BOBS}", ["*@example.com"]),
    "a pattern of Redis in the token": (FORBIDDEN, f"topic={BOBS}", ["gmail:???@example.com"]),
    "no topic, where the token has a prefix": (TOPIC_REQUIRED, "", ["gmail:*"]),
    "a parameter of another name, where the token has a prefix": (TOPIC_REQUIRED, f"topics={TOPIC}", ["gmail:*"]),
    "a star": (BAD_TOPIC, "topic=*", ["*"]),
    "a prefix": (BAD_TOPIC, "topic=gmail:*", ["gmail:*"]),
    "an encoded star": (BAD_TOPIC, "topic=gmail:ann%2a", ["gmail:ann*"]),
    "brackets of a pattern": (BAD_TOPIC, "topic=gmail:[a-z]nn@example.com", ["*"]),
    "a question mark of a pattern": (BAD_TOPIC, "topic=gmail:?nn@example.com", ["*"]),
    "a backslash of a pattern": (BAD_TOPIC, "topic=gmail:\\ann@example.com", ["*"]),
    "a caret of a pattern": (BAD_TOPIC, "topic=gmail:%5Eann@example.com", ["*"]),
    "capitals": (FORBIDDEN, "topic=GMAIL:ANN@EXAMPLE.COM", [TOPIC]),
    "one capital": (FORBIDDEN, "topic=gmail:Ann@example.com", [TOPIC]),
    "a way up by encoded slashes": (FORBIDDEN, f"topic={TOPIC}%2F..%2F{BOBS}", [TOPIC]),
    "a key of Redis": (FORBIDDEN, "topic=../../clock", [TOPIC]),
    "a percent sign, encoded twice": (BAD_TOPIC, "topic=gmail:%2561nn@example.com", [TOPIC]),
    "NUL": (BAD_TOPIC, f"topic={TOPIC}%00", ["*"]),
    "NUL and another mailbox": (BAD_TOPIC, f"topic={TOPIC}%00{BOBS}", ["*"]),
    "a line feed": (BAD_TOPIC, f"topic={TOPIC}%0A", ["*"]),
    "a header behind line breaks": (BAD_TOPIC, f"topic={TOPIC}%0D%0Ax-evil:1", ["*"]),
    "a frame behind line breaks": (BAD_TOPIC, f"topic={TOPIC}%0A%0Adata:x-evil%0A%0A", ["*"]),
    "a line separator of Unicode": (BAD_TOPIC, f"topic={TOPIC}%E2%80%A8", ["*"]),
    "a comma": (BAD_TOPIC, f"topic={TOPIC}%2C{BOBS}", ["*"]),
    "a blank": (BAD_TOPIC, f"topic=+{TOPIC}", ["*"]),
    "a quotation mark": (BAD_TOPIC, f"topic={TOPIC}%22", ["*"]),
    "an empty topic": (BAD_TOPIC, "topic=", [TOPIC]),
    "an empty topic beside one's own": (BAD_TOPIC, f"topic={TOPIC}&topic=", [TOPIC]),
    "321 characters": (BAD_TOPIC, "topic=" + "a" * 321, ["*"]),
    "the Kelvin sign": (BAD_TOPIC, "topic=gmail:" + quote("\u212aate@example.com"), ["*"]),
    "a full-width at sign": (BAD_TOPIC, "topic=gmail:" + quote("ann\uff20example.com"), ["*"]),
    "a Cyrillic letter": (BAD_TOPIC, "topic=gmail:" + quote("\u0430nn@example.com"), ["*"]),
    "a letter and its accent": (BAD_TOPIC, "topic=gmail:" + quote("a\u0301nn@example.com"), ["*"]),
    "a soft hyphen": (BAD_TOPIC, "topic=gmail:" + quote("ann\u00ad@example.com"), ["*"]),
    "bytes that are no text": (BAD_TOPIC, f"topic={TOPIC}%FF", ["*"]),
    "half a pair": (BAD_TOPIC, f"topic={TOPIC}%ED%A0%80", ["*"]),
    "51 topics": (TOO_MANY, "&".join(f"topic=t{n}" for n in range(51)), ["*"]),
    "51 topics in the token": (TOO_MANY, "", [f"t{n}" for n in range(51)]),
    "a line break in the token's topic": (BAD_TOPIC, "", [f"{TOPIC}\r\nx-evil: 1"]),
    "a pattern for the token's only topic": (BAD_TOPIC, "", ["gmail:ann*@example.com"]),
    "a topic of the token that is too long": (BAD_TOPIC, "", [TOPIC, "a" * 321]),
}

# For each endpoint: as last_event_id, as after and in the body.
CURSORS: dict[str, str] = {
    "below zero": "-1-0",
    "a number below zero": "1--1",
    "letters": "abc",
    "letters for a number": "1795426696974-a",
    "one number": "1795426696974",
    "three numbers": "1-1-1",
    "nothing for a number": "1795426696974-",
    "a line feed behind": "1-1\n",
    "a frame behind": "1-1\n\ndata: x-evil\n\n",
    "NUL behind": "1-1\0",
    "a blank before": " 1-1",
    "leading zeros": "01-1",
    "a plus sign": "+1-1",
    "a fraction": "1.0-1",
    "an exponent": "1e3-1",
    "hexadecimal": "0x1-0",
    "5,000 digits": "1" * 3000 + "-" + "1" * 900,
    "2^53": f"{2**53}-0",
    "2^53 in the second number": f"0-{2**53}",
    "2^64": f"{2**64}-0",
    "Arabic digits": "\u0661-\u0661",
    "an Arabic digit behind another": "1\u0661-1",
    "a full-width digit behind another": "1-1\uff11",
    "full-width digits": "\uff11-\uff11",
    "a superscript": "1-\u00b2",
    "a minus of Unicode": "1\u22121",
    "the end of a stream of Redis": "$",
    "what is new to a group of Redis": ">",
    "the greatest id of Redis": "+",
    "an exclusive id of Redis": "(1-1",
    "an id with a star of Redis": "1-*",
    "two cursors": "1-1,2-2",
    "a word that is none": "latest",
    "the word now": "now",
    "a command": "1-1'); redis.call('FLUSHALL') --",
}
HEADER_CURSORS = ("below zero", "letters", "one number", "2^53", "two cursors", "a superscript", "the word now")

# For each endpoint: as client and in the body.
CLIENTS: dict[str, str] = {
    "empty": "",
    "65 characters": "a" * 65,
    "3,000 characters": "a" * 3000,
    "a line feed behind": "tab\n",
    "a frame behind": "tab\n\ndata: x-evil\n\n",
    "NUL": "tab\0",
    "a blank": "a b",
    "an umlaut": "t\u00e4b",
    "a letter that only looks like it": "t\u0430b",
    "the Kelvin sign": "\u212a",
    "a digit that is no ASCII": "tab\u0661",
    "a way up": "../tab",
    "a slash": "ann/tab",
    "a colon, as in a key": f"{digest('ann')}:tab",
    "a star": "*",
    "a dot": "tab.1",
    "a quotation mark": 'tab"',
    "a tag": "<script>",
    "a percent sign": "%74ab",
}

LIMITS: dict[str, str] = {
    "zero": "0",
    "501": "501",
    "below zero": "-1",
    "minus zero": "-0",
    "an exponent": "1e2",
    "a full-width digit": "\uff11",
    "an Arabic digit": "\u0661",
    "10 digits": "1000000000",
    "5,000 digits": "1" * 5000,
    "nothing": "",
    "a blank": " 1",
    "a line feed": "1\n",
    "a plus sign": "+1",
    "hexadecimal": "0x1",
    "an underscore": "1_0",
    "a fraction": "1.0",
    "NaN": "NaN",
    "NUL": "1\0",
}

BODIES: dict[str, tuple[Refusal, bytes]] = {
    "nothing": (BAD_BODY, b""),
    "no JSON": (BAD_BODY, b"cursor=0-0&client=tab"),
    "half of it": (BAD_BODY, b'{"cursor":"0-0","cli'),
    "an array": (BAD_BODY, b'["0-0","tab"]'),
    "an array of acks": (BAD_BODY, b'[{"cursor":"0-0","client":"tab"}]'),
    "text": (BAD_BODY, b'"0-0"'),
    "null": (BAD_BODY, b"null"),
    "true": (BAD_BODY, b"true"),
    "NaN": (BAD_BODY, b"NaN"),
    "two objects": (BAD_BODY, b'{"cursor":"0-0","client":"tab"}{"cursor":"0-0","client":"tab"}'),
    "something behind": (BAD_BODY, b'{"cursor":"0-0","client":"tab"}x'),
    "a comma too many": (BAD_BODY, b'{"cursor":"0-0","client":"tab",}'),
    "single quotes": (BAD_BODY, b"{'cursor':'0-0','client':'tab'}"),
    "100,000 brackets": (TOO_LARGE, b"[" * 100_000),
    "4,000 brackets": (BAD_BODY, b"[" * 4000),
    "800 objects in each other": (BAD_BODY, b'{"a":' * 800),
    "an ack with depth beside it": (BAD_BODY, b'{"cursor":"0-0","client":"tab","x":' + b"[" * 4000),
    "4,097 bytes": (TOO_LARGE, ACK.body.ljust(4097) if ACK.body else b""),
    "a megabyte": (TOO_LARGE, b'{"cursor":"0-0","client":"' + b"a" * 2**20 + b'"}'),
    "no cursor": (BAD_BODY, b'{"client":"tab"}'),
    "no client": (BAD_BODY, b'{"cursor":"0-0"}'),
    "names in capitals": (BAD_BODY, b'{"CURSOR":"0-0","CLIENT":"tab"}'),
    "a cursor that is a number": (BAD_BODY, b'{"cursor":0,"client":"tab"}'),
    "a cursor that is NaN": (BAD_BODY, b'{"cursor":NaN,"client":"tab"}'),
    "a cursor that is infinite": (BAD_BODY, b'{"cursor":-Infinity,"client":"tab"}'),
    "a cursor of 4,000 digits": (BAD_BODY, b'{"cursor":' + b"9" * 4000 + b',"client":"tab"}'),
    "a cursor of 5,000 digits": (TOO_LARGE, b'{"cursor":' + b"9" * 5000 + b',"client":"tab"}'),
    "a cursor that is null": (BAD_BODY, b'{"cursor":null,"client":"tab"}'),
    "a cursor that is a list": (BAD_BODY, b'{"cursor":["0-0"],"client":"tab"}'),
    "a cursor that is an object": (BAD_BODY, b'{"cursor":{"$gt":""},"client":"tab"}'),
    "a client that is a number": (BAD_BODY, b'{"cursor":"0-0","client":7}'),
    "a client that is true": (BAD_BODY, b'{"cursor":"0-0","client":true}'),
    "a client that is a list": (BAD_BODY, b'{"cursor":"0-0","client":["tab"]}'),
    "bytes that are no UTF-8": (BAD_BODY, b'{"cursor":"0-0","client":"\xff"}'),
    "a slash in two bytes": (BAD_BODY, b'{"cursor":"0-0","client":"\xc0\xaf"}'),
    "half a pair": (BAD_CLIENT, b'{"cursor":"0-0","client":"tab\\ud800"}'),
    "an escaped NUL": (BAD_CLIENT, b'{"cursor":"0-0","client":"tab\\u0000"}'),
    "a line feed as it is": (BAD_BODY, b'{"cursor":"0-0","client":"tab\n"}'),
    "a good cursor, and again a bad one": (BAD_CURSOR, b'{"cursor":"0-0","client":"tab","cursor":"x"}'),
    "a good client, and again a bad one": (BAD_CLIENT, b'{"cursor":"0-0","client":"tab","client":"../tab"}'),
    "a good cursor, and again a number": (BAD_BODY, b'{"cursor":"0-0","client":"tab","cursor":0}'),
    "a member of the prototype": (BAD_BODY, b'{"__proto__":{"cursor":"0-0","client":"tab"}}'),
    "compressed": (BAD_BODY, gzip.compress(b'{"cursor":"0-0","client":"tab"}')),
    "a cursor beyond the clock": (AHEAD, json.dumps({"cursor": LATER, "client": "tab"}).encode()),
    "the greatest cursor": (AHEAD, json.dumps({"cursor": f"{2**53 - 1}-{2**53 - 1}", "client": "tab"}).encode()),
}

# Method and path, for the endpoint.
ROUTES: dict[Endpoint, dict[str, tuple[Refusal, str, str]]] = {
    endpoint: {
        **{
            f"by {method}": (NOT_ALLOWED, method, endpoint.path)
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
            if method != endpoint.method
        },
        **{
            name: (NOT_FOUND, endpoint.method, path)
            for name, path in {
                "a slash behind": f"{endpoint.path}/",
                "two slashes before": f"/{endpoint.path}",
                "a way around": f"/x/..{endpoint.path}",
                "a way around by another endpoint": f"/healthz/..{endpoint.path}",
                "a dot before": f"/.{endpoint.path}",
                "capitals": endpoint.path.upper(),
                "NUL behind": f"{endpoint.path}%00",
                "a line break behind": f"{endpoint.path}%0d%0ax-evil:1",
                "an encoded slash before": f"/%2f{endpoint.path[1:]}",
                "a backslash before": f"/%5c{endpoint.path[1:]}",
                "a parameter of the path": f"{endpoint.path};x=1",
                "a suffix": f"{endpoint.path}.json",
                "another function's endpoint": "/push",
            }.items()
        },
    }
    for endpoint in ENDPOINTS
}

# Origin, method (None: the endpoint's) and headers that a preflight asks for.
PREFLIGHTS: dict[str, tuple[str, str | None, str]] = {
    "another origin": ("https://evil.example", None, "authorization"),
    "the origin null": ("null", None, "authorization"),
    "an empty origin": ("", None, "authorization"),
    "a star for an origin": ("*", None, "authorization"),
    "the origin with a suffix": (f"{ORIGIN}.evil.example", None, "authorization"),
    "the origin with a suffix to its name": ("https://app.examples", None, "authorization"),
    "a subdomain of the origin": ("https://evil.app.example", None, "authorization"),
    "the origin's end behind another name": ("https://evilapp.example", None, "authorization"),
    "the origin without TLS": ("http://app.example", None, "authorization"),
    "the origin at another port": (f"{ORIGIN}:8443", None, "authorization"),
    "the origin with a slash": (f"{ORIGIN}/", None, "authorization"),
    "the origin in capitals": (ORIGIN.upper(), None, "authorization"),
    "the origin as a user's name": (f"{ORIGIN}@evil.example", None, "authorization"),
    "two origins": (f"{ORIGIN}, https://evil.example", None, "authorization"),
    "a method that is not allowed": (ORIGIN, "DELETE", "authorization"),
    "a header that is not allowed": (ORIGIN, None, "x-tidemark-bypass"),
}


def replayed(query: str) -> str:
    return f"{REPLAY.query}&{query}" if query else REPLAY.query


def streamed(query: str) -> str:
    return f"{EVENTS.query}&{query}" if query else EVENTS.query


def acked(cursor: str = "0-0", client: str = "intruder") -> bytes:
    return json.dumps({"cursor": cursor, "client": client}).encode()


def with_token(endpoint: Endpoint, make: Callable[[], str]) -> Callable[[], Request]:
    """Make the token only when the request is made: it holds the time."""
    return lambda: endpoint.request(make())


def with_form(endpoint: Endpoint, form: Callable[[str], tuple[str, dict[str, str], str]]) -> Callable[[], Request]:
    """Send a good token in another form."""

    def request() -> Request:
        token = own()
        authorization, headers, query = form(token)
        query = "&".join(part for part in (endpoint.query, query) if part)
        return endpoint.request(token, authorization=authorization, headers=headers, query=query)

    return request


def with_topics(endpoint: Endpoint, query: str, allowed: list[str]) -> Callable[[], Request]:
    """Ask with a token for these topics."""
    return lambda: endpoint.request(own(topics=allowed), query=query)


def with_changes(endpoint: Endpoint, **changed: Any) -> Callable[[], Request]:
    """Send a good token, and something else that is bad."""
    return lambda: endpoint.request(**changed)


def _credential_attacks() -> Iterator[tuple[str, Attack]]:
    for endpoint in ENDPOINTS:
        for name, (refusal, make) in TOKENS.items():
            yield f"{endpoint.path} token: {name}", Attack(refusal, with_token(endpoint, make))
        for name, (refusal, form) in CREDENTIALS.items():
            yield f"{endpoint.path} credentials: {name}", Attack(refusal, with_form(endpoint, form))


def _topic_attacks() -> Iterator[tuple[str, Attack]]:
    for endpoint, extended in ((EVENTS, streamed), (REPLAY, replayed)):
        for name, (refusal, query, allowed) in TOPICS.items():
            yield f"{endpoint.path} topic: {name}", Attack(refusal, with_topics(endpoint, extended(query), allowed))


def _value_attacks() -> Iterator[tuple[str, Attack]]:
    for name, text in CURSORS.items():
        query = quote(text)
        requests: list[tuple[Endpoint, dict[str, Any]]] = [
            (EVENTS, {"query": f"last_event_id={query}"}),
            (REPLAY, {"query": f"after={query}"}),
            (ACK, {"body": acked(cursor=text)}),
        ]
        for endpoint, changed in requests:
            attack = Attack(BAD_CURSOR, with_changes(endpoint, **changed))
            yield f"{endpoint.path} cursor: {name}", attack
        if name in HEADER_CURSORS:
            headers = {"last-event-id": text}
            yield f"/events header: {name}", Attack(BAD_CURSOR, with_changes(EVENTS, headers=headers))
    for name, text in CLIENTS.items():
        query = quote(text)
        requests = [
            (EVENTS, {"query": f"from=acked&client={query}"}),
            (REPLAY, {"query": f"after=acked&client={query}"}),
            (ACK, {"body": acked(client=text)}),
        ]
        for endpoint, changed in requests:
            attack = Attack(BAD_CLIENT, with_changes(endpoint, **changed))
            yield f"{endpoint.path} client: {name}", attack
    for name, text in LIMITS.items():
        query = replayed(f"limit={quote(text)}")
        yield f"/replay limit: {name}", Attack(BAD_NUMBER, with_changes(REPLAY, query=query))
    for name, (refusal, body) in BODIES.items():
        yield f"/ack body: {name}", Attack(refusal, with_changes(ACK, body=body))
    half_a_pair = quote_from_bytes("\ud800".encode(errors="surrogatepass"))
    queries: dict[str, tuple[Refusal, Endpoint, str]] = {
        "from: nothing": (BAD_CURSOR, EVENTS, "from="),
        "from: another word": (BAD_CURSOR, EVENTS, "from=yesterday"),
        "from: the word in capitals": (BAD_CURSOR, EVENTS, "from=NOW"),
        "from: a cursor": (BAD_CURSOR, EVENTS, "from=1-1"),
        "from: acked without a client": (BAD_CLIENT, EVENTS, "from=acked"),
        "from: a good word and then another": (BAD_CURSOR, EVENTS, "from=now&from=x"),
        "client: half a pair": (BAD_CLIENT, EVENTS, f"client=tab{half_a_pair}"),
        "last_event_id: earliest": (BAD_CURSOR, EVENTS, "last_event_id=earliest"),
        "query: 40 KiB": (QUERY_TOO_LONG, EVENTS, "x=" + "a" * 40 * 1024),
        "query: 64 KiB of a cursor": (QUERY_TOO_LONG, REPLAY, "after=" + "1" * 64 * 1024),
        "after: missing": (BAD_CURSOR, REPLAY, ""),
        "after: nothing": (BAD_CURSOR, REPLAY, "after="),
        "after: in capitals": (BAD_CURSOR, REPLAY, "After=earliest"),
        "after: acked without a client": (BAD_CLIENT, REPLAY, "after=acked"),
        "after: a good cursor and then another": (BAD_CURSOR, REPLAY, "after=0-0&after=x"),
        "limit: a good one and then another": (BAD_NUMBER, REPLAY, "after=earliest&limit=1&limit=501"),
    }
    for name, (refusal, endpoint, query) in queries.items():
        yield f"{endpoint.path} {name}", Attack(refusal, with_changes(endpoint, query=query))


def _route_attacks() -> Iterator[tuple[str, Attack]]:
    for endpoint, routes in ROUTES.items():
        for name, (refusal, method, path) in routes.items():
            attack = Attack(refusal, with_changes(endpoint, method=method, path=path))
            yield f"{endpoint.path} route: {name}", attack
        override = {"x-http-method-override": endpoint.method, "x-http-method": endpoint.method}
        attack = Attack(NOT_ALLOWED, with_changes(endpoint, method="DELETE", headers=override))
        yield f"{endpoint.path} route: another method in a header", attack
        rewrite = {"x-original-url": endpoint.path, "x-rewrite-url": endpoint.path}
        attack = Attack(NOT_FOUND, with_changes(endpoint, path="/", headers=rewrite))
        yield f"{endpoint.path} route: another path in a header", attack
        for name, (origin, asked, wanted) in PREFLIGHTS.items():
            headers = {
                "origin": origin,
                "access-control-request-method": asked or endpoint.method,
                "access-control-request-headers": wanted,
            }
            attack = Attack(CORS_REFUSED, with_changes(endpoint, method="OPTIONS", headers=headers))
            yield f"{endpoint.path} preflight: {name}", attack


ATTACKS: dict[str, Attack] = {
    name: attack
    for attacks in (_credential_attacks(), _topic_attacks(), _value_attacks(), _route_attacks())
    for name, attack in attacks
}
