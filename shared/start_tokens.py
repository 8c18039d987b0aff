"""Cold start of what serves clients: who they are."""

from __future__ import annotations

from shared.jwks import KeySet
from shared.start import Basis
from shared.tokens import PROVIDER_ALGORITHMS, TokenVerifier


def token_verifier(basis: Basis) -> TokenVerifier:
    """Build what verifies the tokens of clients."""
    url = basis.settings.token_jwks_url
    keys = url and KeySet(url, name="token_keys", algorithms=PROVIDER_ALGORITHMS, counts=basis.counts)
    return TokenVerifier(basis.settings.token_keys, key_set=keys or None)
