"""Attacks on `POST /push`: each by its name, with the answer that it must get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.mail import push_body
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, b64, push_claims, push_token

BOX = "ann@example.com"
NOW = time.time()
GOOGLE = Issuer.rsa("google-1")
FORGER = Issuer.rsa("forger")
HOUR = 3600
KIB = 1024


def body(message_id: str = "m-1") -> bytes:
    return json.dumps(push_body(BOX, 4711, message_id)).encode()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def genuine(**changed: Any) -> dict[str, str]:
    """Give the header of a token of Google's, but for changes to its claims."""
    return bearer(push_token(GOOGLE, NOW, **changed))


def headed(**header: Any) -> dict[str, str]:
    """Give the header of a token whose own header is changed; the signature is good for what it says."""
    return bearer(GOOGLE.sign(push_claims(NOW), **header))


def hmac_with(secret: str) -> str:
    """Sign as if the public key were a shared secret."""
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": GOOGLE.kid}).encode())
    text = f"{head}.{b64(json.dumps(push_claims(NOW)).encode())}"
    return f"{text}.{b64(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def unsigned(algorithm: str) -> str:
    head = b64(json.dumps({"alg": algorithm, "typ": "JWT", "kid": GOOGLE.kid}).encode())
    return f"{head}.{b64(json.dumps(push_claims(NOW)).encode())}."


def tampered() -> str:
    """Change a claim under a good signature."""
    head, _, signature = push_token(GOOGLE, NOW, email="evil@evil.example").split(".")
    return f"{head}.{b64(json.dumps(push_claims(NOW)).encode())}.{signature}"


@dataclass(frozen=True, slots=True)
class Attack:
    """One request, and what it must be answered."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default_factory=body)
    method: str = "POST"
    path: str = "/push"
    query: str = ""


MISSING, INVALID, EXPIRED = (401, "token_missing"), (401, "token_invalid"), (401, "token_expired")
UNKNOWN, FORBIDDEN, TOO_LARGE = (401, "token_key_unknown"), (403, "push_forbidden"), (413, "body_too_large")

ATTACKS: dict[str, Callable[[], Attack]] = {
    # -- no credentials, or another kind of them
    "no token": lambda: Attack(*MISSING),
    "an empty header": lambda: Attack(*MISSING, {"authorization": ""}),
    "a scheme without credentials": lambda: Attack(*MISSING, {"authorization": "Bearer "}),
    "basic credentials": lambda: Attack(*MISSING, {"authorization": "Basic " + base64.b64encode(b"a:b").decode()}),
    "the token without its scheme": lambda: Attack(*MISSING, {"authorization": push_token(GOOGLE, NOW)}),
    "the token in the query": lambda: Attack(*MISSING, query="token=" + push_token(GOOGLE, NOW)),
    "the token in another header": lambda: Attack(*MISSING, {"x-goog-iap-jwt-assertion": push_token(GOOGLE, NOW)}),
    "the token in a cookie": lambda: Attack(*MISSING, {"cookie": "authorization=" + push_token(GOOGLE, NOW)}),
    # -- signatures
    "garbage for a token": lambda: Attack(*INVALID, bearer("garbage")),
    "three empty parts": lambda: Attack(*INVALID, bearer("..")),
    "two tokens in one header": lambda: Attack(
        *INVALID, bearer(f"{push_token(GOOGLE, NOW)}, Bearer {push_token(GOOGLE, NOW)}")
    ),
    "no signature": lambda: Attack(*INVALID, bearer(push_token(GOOGLE, NOW).rpartition(".")[0] + ".")),
    "half a signature": lambda: Attack(*INVALID, bearer(push_token(GOOGLE, NOW)[:-100])),
    "a signature over other claims": lambda: Attack(*INVALID, bearer(tampered())),
    "another key under Google's kid": lambda: Attack(*INVALID, bearer(FORGER.sign(push_claims(NOW), kid=GOOGLE.kid))),
    "a key that Google has not published": lambda: Attack(*UNKNOWN, bearer(push_token(FORGER, NOW))),
    "alg none": lambda: Attack(*INVALID, bearer(unsigned("none"))),
    "alg NONE": lambda: Attack(*INVALID, bearer(unsigned("NONE"))),
    "the public key as a shared secret": lambda: Attack(*INVALID, bearer(hmac_with(GOOGLE.pem()))),
    "the modulus as a shared secret": lambda: Attack(*INVALID, bearer(hmac_with(GOOGLE.jwk()["n"]))),
    "RS512 with Google's key": lambda: Attack(*INVALID, headed(alg="RS512")),
    "a curve's signature": lambda: Attack(*INVALID, bearer(Issuer.ec().sign(push_claims(NOW), kid=GOOGLE.kid))),
    "the forger's key in the token": lambda: Attack(
        *INVALID, bearer(FORGER.sign(push_claims(NOW), kid=GOOGLE.kid, jwk=FORGER.jwk()))
    ),
    "a URL of the forger's keys in the token": lambda: Attack(
        *UNKNOWN, bearer(FORGER.sign(push_claims(NOW), jku="https://evil.example/keys"))
    ),
    "no kid": lambda: Attack(*INVALID, headed(kid=...)),
    "a kid that is a path": lambda: Attack(*UNKNOWN, headed(kid="../../etc/passwd")),
    "a kid that is a number": lambda: Attack(*INVALID, headed(kid=1)),
    "a kid that is a list": lambda: Attack(*INVALID, headed(kid=[GOOGLE.kid])),
    "a critical extension": lambda: Attack(*INVALID, headed(crit=["exp"])),
    "claims that are no object": lambda: Attack(*INVALID, bearer(GOOGLE.sign(b"[]"))),
    "claims that are deep": lambda: Attack(*INVALID, bearer(GOOGLE.sign(b"[" * 3000))),
    "a token of 16 KiB": lambda: Attack(*INVALID, bearer("a" * 16 * KIB)),
    "a token of 64 KiB": lambda: Attack(431, "headers_too_large", bearer("a" * 64 * KIB)),
    # -- claims
    "a token that has expired": lambda: Attack(*EXPIRED, genuine(exp=int(NOW) - 60, iat=int(NOW) - HOUR)),
    "a token of tomorrow": lambda: Attack(*INVALID, genuine(iat=int(NOW) + HOUR, exp=int(NOW) + 2 * HOUR)),
    "a token that never expires": lambda: Attack(*INVALID, genuine(exp=...)),
    "exp NaN": lambda: Attack(*INVALID, genuine(exp=float("nan"))),
    "exp beyond all numbers": lambda: Attack(*INVALID, genuine(exp=10**400)),
    "exp as text": lambda: Attack(*INVALID, genuine(exp=str(int(NOW) + HOUR))),
    "another issuer": lambda: Attack(*INVALID, genuine(iss="https://accounts.evil.example")),
    "an issuer that only begins so": lambda: Attack(
        *INVALID, genuine(iss="https://accounts.google.com.evil.example")
    ),
    "issuers in a list": lambda: Attack(*INVALID, genuine(iss=["https://accounts.google.com"])),
    "another audience": lambda: Attack(*FORBIDDEN, genuine(aud="https://other.example/push")),
    "our audience and a slash": lambda: Attack(*FORBIDDEN, genuine(aud=PUSH_AUDIENCE + "/")),
    "our audience in capitals": lambda: Attack(*FORBIDDEN, genuine(aud=PUSH_AUDIENCE.upper())),
    "our audience among others": lambda: Attack(*FORBIDDEN, genuine(aud=[PUSH_AUDIENCE, "other"])),
    "another service account": lambda: Attack(*FORBIDDEN, genuine(email="push@evil.iam.gserviceaccount.com")),
    "our account in capitals": lambda: Attack(*FORBIDDEN, genuine(email=PUSH_ACCOUNT.upper())),
    "no account": lambda: Attack(*FORBIDDEN, genuine(email=...)),
    "an account that is not verified": lambda: Attack(*FORBIDDEN, genuine(email_verified=False)),
    "an account that says it is, in text": lambda: Attack(*FORBIDDEN, genuine(email_verified="true")),
    # -- sizes
    "300 KiB without a token": lambda: Attack(*TOO_LARGE, body=b"x" * 300 * KIB),
    "300 KiB with a forged token": lambda: Attack(*TOO_LARGE, bearer("x.y.z"), body=b"x" * 300 * KIB),
    # -- methods and paths
    "GET": lambda: Attack(405, "method_not_allowed", genuine(), method="GET"),
    "PUT": lambda: Attack(405, "method_not_allowed", genuine(), method="PUT"),
    "a slash behind": lambda: Attack(404, "not_found", genuine(), path="/push/"),
    "two slashes before": lambda: Attack(404, "not_found", genuine(), path="//push"),
    "a way around": lambda: Attack(404, "not_found", genuine(), path="/x/../push"),
    "another function's path": lambda: Attack(404, "not_found", genuine(), path="/replay"),
    "the path in capitals": lambda: Attack(404, "not_found", genuine(), path="/PUSH"),
    # -- addresses
    "a forwarded address of Google's": lambda: Attack(*MISSING, {"x-forwarded-for": "66.102.0.1"}),
    "a bypass that nobody has configured": lambda: Attack(*MISSING, {"x-tidemark-bypass": "x" * 32}),
}
