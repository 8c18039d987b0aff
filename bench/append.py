"""The append command exactly as the webhook function sends it, for clients that are not the webhook function."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from bench.raw_http import Pool, request
from infra.local.mail import push_body
from shared.envelope import envelope_of
from shared.keys import Keys
from shared.log import Log
from shared.position import Position
from shared.push import parse_push
from shared.retention import Retention
from shared.settings import Function, Settings
from shared.upstash import Upstash


def mailbox(number: int) -> str:
    """Return the address of a stream's mailbox."""
    return f"user{number:05}@bench.example.com"


def push_json(number: int, message_id: int) -> bytes:
    """Build the body of a push to a mailbox."""
    return json.dumps(push_body(mailbox(number), message_id % 10**12, str(message_id))).encode()


class _Recorder:
    """Stands where the log has its Upstash client, and keeps the command instead of sending it."""

    def __init__(self) -> None:
        self.command: list[str | int] = []
        self.clock = "0-0"

    async def execute(self, command: Sequence[str | int], **_how: Any) -> list[str]:
        self.command = list(command)
        return [self.clock, "0", self.clock]


class Appends:
    """Builds the HTTP requests of appends to a stage: the product hears of them only if it is its own."""

    def __init__(self, stage: str, gateway_port: int, token: str, *, kept: int = 1000) -> None:
        self.keys = Keys(stage)
        self._port = gateway_port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._recorder = _Recorder()
        self._log = Log(cast("Upstash", self._recorder), self.keys, _retention(kept))

    async def settle(self, pool: Pool) -> None:
        """Append once and take the clock from the answer: the webhook function sends the last one it knows along."""
        status, answer = await pool.fetch(self.request(0, 0))
        assert status == 200, answer
        clock = json.loads(answer)["result"][2]
        self._recorder.clock = clock
        self._log.saw(Position.parse(clock))

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build the request that appends one message."""
        body = json.dumps(self.command(mailbox, message_id), separators=(",", ":"), ensure_ascii=False)
        return request("POST", "/", self._port, self._headers, body.encode())

    def command(self, mailbox: int, message_id: int) -> list[str | int]:
        """Build the command that appends one message."""
        note = parse_push(push_json(mailbox, message_id), {}, received_at=datetime.now(UTC))
        append = self._log.append(
            topic=note.topic,
            envelope=envelope_of(note),
            subscription=note.subscription,
            message_id=note.message_id,
        )
        _run(append)
        return self._recorder.command


def _run(append: Any) -> None:
    """Run a coroutine that never waits, whether or not a loop is running."""
    try:
        append.send(None)
    except StopIteration:
        return
    raise RuntimeError("recording an append must not wait")


def _retention(kept: int) -> Retention:
    environ = {
        "UPSTASH_REDIS_REST_URL": "http://127.0.0.1",
        "UPSTASH_REDIS_REST_TOKEN": "unused",
        "TIDEMARK_PUSH_AUTH": "off",
        "TIDEMARK_TOPIC_MAX_EVENTS": str(kept),
    }
    return Settings.of(environ, Function.WEBHOOK).retention
