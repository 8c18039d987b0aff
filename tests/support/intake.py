"""The webhook as a cold process, and pushes to it, timed as Pub/Sub would."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.support.deliver_rig import SUBSCRIPTION
from tests.support.lambda_events import Answer, check_problem
from tests.support.lambda_process import LambdaProcess

HANDLER = "functions.webhook.handler"
#: By the contract.
ANSWER_S = 3.0


def push_of(message_id: int | str, *, mailbox: str = "ann@example.com", **members: Any) -> bytes:
    """Build a wrapped push; ``members`` are more of its message."""
    data = json.dumps({"emailAddress": mailbox, "historyId": 1}).encode()
    message = {"data": base64.b64encode(data).decode(), "messageId": str(message_id), **members}
    return json.dumps({"message": message, "subscription": SUBSCRIPTION}).encode()


class Webhook:
    """A running webhook function. ``took_s`` is how long its last answer took, in its own process."""

    def __init__(self, process: LambdaProcess) -> None:
        self._process = process
        self.took_s = 0.0

    @property
    def modules(self) -> set[str]:
        """What was imported when the last answer was given."""
        return self._process.modules

    def logged(self) -> list[dict[str, Any]]:
        """Return what it has logged up to its last answer."""
        return self._process.logged()

    async def push(self, body: bytes, *, authorization: str | None = None) -> Answer:
        """Push once."""
        headers = {} if authorization is None else {"authorization": authorization}
        return await asyncio.to_thread(self._push, body, headers)

    def _push(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        began = time.monotonic()
        answer = self._process.invoke("POST", "/push", headers=headers, body=body)
        self.took_s = time.monotonic() - began
        return answer


@contextlib.asynccontextmanager
async def webhook(settings: Mapping[str, str]) -> AsyncIterator[Webhook]:
    """Start the webhook function cold, with these settings only, and end it."""
    running = LambdaProcess.running(HANDLER, settings)
    process = running.__enter__()
    try:
        # The time of the imports is not that of an answer.
        await asyncio.to_thread(process.invoke, "GET", "/nothing")
        yield Webhook(process)
    except BaseException as error:
        if not await asyncio.to_thread(running.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await asyncio.to_thread(running.__exit__, None, None, None)


def queued(answer: Answer) -> bool:
    """Tell whether the queue took it."""
    return (answer.status, answer.json()) == (200, {"status": "queued"})


def refused(answer: Answer, code: str = "queue_unavailable") -> None:
    """Hold an answer to what Pub/Sub needs to send the push again."""
    check_problem(answer, 503, code)
    assert int(answer.headers["retry-after"]) > 0
