"""AWS Signature Version 4: whether a request was signed with our key.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from infra.local.queue import errors

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "sqs"
_END: Final = "aws4_request"
_SKEW_S: Final = 900
_TIME: Final = re.compile(r"\d{8}T\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What of a request is signed. Header names are in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an Authorization header says."""

    access_key: str
    day: str
    region: str
    service: str
    signed_headers: str
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/{_END}"


class Verifier:
    """Checks requests against one key pair. ``clock`` gives unix seconds."""

    def __init__(self, access_key: str, secret_key: str, region: str, clock: Callable[[], float]) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._clock = clock

    def verify(self, request: SignedRequest) -> None:
        """Raise QueueError unless the request is signed with the key, for this service, now."""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(name.decode("latin-1"), []).append(" ".join(value.decode("latin-1").split()))
        authorization = ",".join(headers.get("authorization", ()))
        if not authorization:
            raise errors.missing_token()
        claim = _read(authorization)
        if not hmac.compare_digest(claim.access_key.encode(), self._access_key.encode()):
            raise errors.unknown_key()
        if claim.region != self._region:
            raise errors.wrong_signature(f"Credential should be scoped to a valid region, not '{claim.region}'.")
        if claim.service != _SERVICE:
            raise errors.wrong_signature(f"Credential should be scoped to correct service: '{_SERVICE}'.")
        time = ",".join(headers.get("x-amz-date", ()))
        self._check_time(time, claim.day)
        text = "\n".join((_ALGORITHM, time, claim.scope, _canonical(request, headers, claim.signed_headers)))
        key = _signing_key(self._secret_key, claim.day, claim.region)
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
            raise errors.wrong_signature(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
            )

    def _check_time(self, time: str, day: str) -> None:
        if not _TIME.fullmatch(time):
            raise errors.incomplete_signature(
                "Authorization header requires existence of a valid 'X-Amz-Date' header."
            )
        if not time.startswith(day):
            raise errors.wrong_signature(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date."
            )
        try:
            signed_s = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise errors.incomplete_signature(f"'{time}' is no date.") from None
        now_s = self._clock()
        if signed_s < now_s - _SKEW_S:
            raise errors.wrong_signature(f"Signature expired: {time} is more than 15 min. ago.")
        if signed_s > now_s + _SKEW_S:
            raise errors.wrong_signature(f"Signature not yet current: {time} is more than 15 min. ahead.")


def _read(authorization: str) -> _Claim:
    """Read `AWS4-HMAC-SHA256 Credential=key/day/region/service/aws4_request, SignedHeaders=a;b, Signature=hex`."""
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        raise errors.incomplete_signature(f"Authorization header requires the algorithm {_ALGORITHM}.")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise errors.incomplete_signature(f"Authorization header requires '{name}' parameter.")
    credential = parts["Credential"].rsplit("/", 4)
    if len(credential) != 5 or credential[4] != _END:  # noqa: PLR2004 - the five parts above
        raise errors.incomplete_signature("Credential must have 5 slash-delimited elements.")
    access_key, day, region, service, _ = credential
    return _Claim(access_key, day, region, service, parts["SignedHeaders"], parts["Signature"])


def _canonical(request: SignedRequest, headers: dict[str, list[str]], signed: str) -> str:
    """Give the hash of the canonical request."""
    names = signed.split(";")
    if "host" not in names:
        raise errors.wrong_signature("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    query = b"&".join(sorted(part if b"=" in part else part + b"=" for part in request.query.split(b"&") if part))
    lines = [
        request.method,
        # The path is encoded already and is encoded again: every service but S3 has it so.
        quote(request.path, safe="/~"),
        query.decode("latin-1"),
        *(f"{name}:{','.join(headers.get(name, ()))}" for name in names),
        "",
        signed,
        hashlib.sha256(request.body).hexdigest(),
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = b"AWS4" + secret_key.encode()
    for part in (day, region, _SERVICE, _END):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
