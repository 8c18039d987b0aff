"""Cold start of what limits requests."""

from __future__ import annotations

from shared.bypass import Bypass
from shared.limiter import Limiter
from shared.quota import Quota
from shared.start import Basis

_MINUTE_S = 60


def limiter(basis: Basis, name: str, limit: int, what: str, *, sliding: bool = False) -> Limiter:
    """Build a limiter of so many requests a minute."""
    quota = Quota(name, limit, _MINUTE_S, what)
    return Limiter(quota, basis.upstash, basis.keys, basis.counts, sliding=sliding, breaker=basis.breaker)


def client_limiter(basis: Basis, name: str, what: str) -> Limiter:
    """Build a limiter of what one user may do in a minute."""
    return limiter(basis, name, basis.settings.client_limit, f"{what} of one user")


def bypass(basis: Basis) -> Bypass:
    """Build what lets load tests pass the limiters."""
    return Bypass(basis.settings.bypass_secret, basis.counts)
