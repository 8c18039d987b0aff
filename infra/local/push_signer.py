"""The local stand-in for Google's signature: a key of the data directory, its JWK set, and the tokens of pushes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from shared.push_auth import ALGORITHM, ISSUERS

#: What pushes to a local stack are made for, and by whom.
AUDIENCE = "tidemark-local"
SERVICE_ACCOUNT = "push@tidemark-local.iam.gserviceaccount.com"
#: Where the origin serves the JWK set.
JWKS_PATH = "/dev/push-keys"
_LIFE_S = 3600  # as Google's
_USED_FOR_S = 600.0
_BITS = 2048


def genuine_pushes(url: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings by which a push to the stack at ``url`` is genuine.

    That is one which `tidemark push` has signed, unless the environment names other keys.
    """
    if environ.get("TIDEMARK_PUSH_JWKS_URL"):
        return {}
    return {
        "TIDEMARK_PUSH_AUDIENCE": AUDIENCE,
        "TIDEMARK_PUSH_SERVICE_ACCOUNT": SERVICE_ACCOUNT,
        "TIDEMARK_PUSH_JWKS_URL": f"{url}{JWKS_PATH}",
    }


def new_key() -> str:
    """Make a private key, as PEM."""
    pem = generate_private_key(public_exponent=65_537, key_size=_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


class PushSigner:
    """Signs as Pub/Sub does, with the private key of a PEM file's text. Raises ValueError if it holds none."""

    def __init__(self, pem: str) -> None:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("not an RSA key")  # noqa: TRY004 - the text is what is wrong
        self._key = key
        jwk = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
        # Named after its content: a key that was made anew is looked for anew.
        self._kid = jwk["n"][:16]
        self._token, self._made_at = "", -math.inf
        self._jwk = {"kty": "RSA", "n": jwk["n"], "e": jwk["e"], "alg": ALGORITHM, "use": "sig", "kid": self._kid}

    @classmethod
    def of(cls, file: Path) -> PushSigner:
        """Read the key of a PEM file. Raises OSError or ValueError."""
        return cls(file.read_text())

    def key_set(self) -> dict[str, Any]:
        """Return the JWK set that verifies what this signs."""
        return {"keys": [self._jwk]}

    def authorization(self) -> dict[str, str]:
        """Return the header of a push that is sent now. A token serves for a while, as Google's do."""
        if time.time() - self._made_at > _USED_FOR_S:
            self._made_at = time.time()
            self._token = self._sign(int(self._made_at))
        return {"Authorization": f"Bearer {self._token}"}

    def _sign(self, now: int) -> str:
        claims = {
            "iss": ISSUERS[0],
            "aud": AUDIENCE,
            "azp": "tidemark-local",
            "sub": "tidemark-local",
            "email": SERVICE_ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + _LIFE_S,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._kid})
