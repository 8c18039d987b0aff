"""Cold start of what takes pushes: who may send them, and where those go that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.dead_letters import DeadLetters
from shared.jwks import KeySet
from shared.push_auth import ALGORITHM, PushVerifier
from shared.sqs import Sqs
from shared.start import Basis

if TYPE_CHECKING:
    from shared.parking import Parking


def push_verifier(basis: Basis) -> PushVerifier | None:
    """Build what verifies pushes, unless they are taken without a token."""
    auth = basis.settings.push_auth
    if auth is None:
        return None
    keys = KeySet(auth.jwks_url, name="push_keys", algorithms=[ALGORITHM], counts=basis.counts)
    return PushVerifier(keys, audience=auth.audience, service_account=auth.service_account)


def unreadable(basis: Basis) -> DeadLetters | Parking:
    """Build what keeps pushes that can never be read."""
    queues = basis.settings.queues
    if queues is not None:
        return DeadLetters(Sqs(queues.dead_letters, queues.access))
    from shared.parking import Parking  # noqa: PLC0415 - inside Lambda there are queues

    return Parking(basis.upstash, basis.keys)
