"""The queues of a local stack: their names, and how a function is told of them."""

from __future__ import annotations

from typing import Final

DELIVERY: Final = "tidemark-delivery.fifo"
DEAD_LETTERS: Final = "tidemark-dead-letters"
CONFIRMATION: Final = "tidemark-confirmation"
QUEUES: Final = (DELIVERY, DEAD_LETTERS, CONFIRMATION)
_ACCOUNT: Final = "000000000000"


def queue_access(secret: str) -> dict[str, str]:
    """Return whose requests the local queues take, as the environment says it to AWS's clients."""
    # No session token: one of the caller's own, for the real AWS, must not go along.
    return {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "tidemark-local",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": "",
    }


def queue_settings(url: str, secret: str) -> dict[str, str]:
    """Return the settings of a function that uses the queues of the queue server at a URL."""
    return {
        **queue_access(secret),
        "TIDEMARK_QUEUE_URL": f"{url}/{_ACCOUNT}/{DELIVERY}",
        "TIDEMARK_DEAD_LETTER_URL": f"{url}/{_ACCOUNT}/{DEAD_LETTERS}",
        "TIDEMARK_CONFIRM_QUEUE_URL": f"{url}/{_ACCOUNT}/{CONFIRMATION}",
    }
