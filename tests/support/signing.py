"""Issuers of tokens that sign with a private key: an RSA one, as Google is, and one of an elliptic curve.

``jwk`` is what an issuer publishes, ``sign`` writes a token by hand: libraries refuse to write what a forger would.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

GOOGLE = "https://accounts.google.com"
PUSH_AUDIENCE = "https://tidemark.example/push"
PUSH_ACCOUNT = "push@project.iam.gserviceaccount.com"


def b64(data: bytes) -> str:
    """Encode as the parts of a token are."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def given(good: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``good`` with changes; ``...`` leaves a name out."""
    return {name: value for name, value in {**good, **changed}.items() if value is not ...}


class Issuer:
    """Signs tokens with one private key, which ``kid`` names."""

    def __init__(self, kid: str, private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self.kid = kid
        self.private = private
        self.algorithm = "RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256"

    @classmethod
    @functools.cache
    def rsa(cls, kid: str = "rsa-1", bits: int = 2048) -> Issuer:
        """Give the RSA key of this name: always the same one, because making it takes a while."""
        return cls(kid, rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @classmethod
    @functools.cache
    def ec(cls, kid: str = "ec-1") -> Issuer:
        """Give the key of this name on P-256."""
        return cls(kid, ec.generate_private_key(ec.SECP256R1()))

    def jwk(self, **changed: Any) -> dict[str, Any]:
        """Return the public key as it is published."""
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(self.private, rsa.RSAPrivateKey):
            return given(common | RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True), changed)
        return given(common | ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True), changed)

    def private_jwk(self) -> dict[str, Any]:
        """Return what must never be published."""
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(self.private, rsa.RSAPrivateKey):
            return given(common | RSAAlgorithm.to_jwk(self.private, as_dict=True), {"key_ops": ...})
        return given(common | ECAlgorithm.to_jwk(self.private, as_dict=True), {"key_ops": ...})

    def pem(self) -> str:
        """Return the public key as text."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, claims: Any, **header: Any) -> str:
        """Return a token; ``claims`` may be bytes, and ``...`` leaves a field of the header out."""
        head = given({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}, header)
        body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        text = f"{b64(json.dumps(head).encode())}.{b64(body)}"
        if isinstance(self.private, rsa.RSAPrivateKey):
            signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(text.encode(), self.private)
        else:
            signature = ECAlgorithm(ECAlgorithm.SHA256).sign(text.encode(), self.private)
        return f"{text}.{b64(signature)}"


def push_claims(now: float, **changed: Any) -> dict[str, Any]:
    """Return what Google's token of a push says, with changes; ``...`` leaves a claim out."""
    good = {
        "iss": GOOGLE,
        "aud": PUSH_AUDIENCE,
        "azp": "113774264463038321964",
        "sub": "113774264463038321964",
        "email": PUSH_ACCOUNT,
        "email_verified": True,
        "iat": int(now),
        "exp": int(now) + 3600,
    }
    return given(good, changed)


def push_token(issuer: Issuer, now: float, **changed: Any) -> str:
    """Sign a good token of a push, but for the changes to its claims."""
    return issuer.sign(push_claims(now, **changed))
