"""A flood of requests that do not verify, from the address that genuine pushes come from: Redis hardly sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from infra.chaos.origin import Origin
from infra.chaos.part import Part, answers
from infra.chaos.poster import Poster
from infra.local.loopback import HOST, steady_port
from infra.local.mail import push_body
from infra.local.push_signer import AUDIENCE, SERVICE_ACCOUNT, PushSigner, new_key
from shared.keys import Keys
from tests.support.client_attacks import published
from tests.support.gateway import GatewayProcess, RedisServer
from tests.support.lambda_events import environment, process_environment, redis_command
from tests.support.log_rig import own_stage
from tests.support.waiting import until

BOX = "ann@example.com"
LIMIT = 100
FLOOD = 2_000
GENUINE = 200
#: Requests of the flood that are under way at once. So many may ask Redis before its first refusal is known here.
AT_ONCE = 20
MOST = LIMIT + 2 * AT_ONCE + 10
TIMEOUT_S = 20.0


class Monitor:
    """Every command that a Redis runs, as its MONITOR tells."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, port: int) -> AsyncIterator[Monitor]:
        monitor = cls()
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"MONITOR\r\n")
        assert await reader.readline() == b"+OK\r\n"
        listening = asyncio.create_task(monitor._listen(reader))
        try:
            yield monitor
        finally:
            listening.cancel()
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            self.lines.append(line)

    def checks(self, key: str) -> int:
        """Count the scripts that were sent for a key that begins so; not the commands that those ran."""
        sent = [line for line in self.lines if b" lua] " not in line and b'"EVAL"' in line.upper()]
        return sum(f'"{key}'.encode() in line for line in sent)


async def test_of_a_flood_redis_sees_the_limit_and_genuine_pushes_are_all_taken(
    gateway: GatewayProcess, redis_server: RedisServer, tmp_path: Path
) -> None:
    """2,000 requests without a token, with garbage and with forged signatures, beside 200 pushes of Google's."""
    stage, signer = own_stage(), PushSigner(new_key())
    with published(*signer.key_set()["keys"]) as key_set:
        webhook = _webhook(gateway, stage, key_set, tmp_path)
        await webhook.start()
        try:
            async with Monitor.running(redis_server.port) as monitor:
                answered, acknowledged = await asyncio.gather(
                    _flood(webhook.port, signer), _push(webhook.port, signer)
                )
                redis_command(gateway, "ECHO", f"the end of {stage}")
                end = f"the end of {stage}".encode()
                await until(lambda: any(end in line for line in monitor.lines), "all commands were seen")
        finally:
            webhook.terminate()
            webhook.stop()

    assert [answer["status"] for answer in acknowledged] == ["published"] * GENUINE
    assert redis_command(gateway, "XLEN", Keys(stage).log(f"gmail:{BOX}")) == GENUINE
    assert answered.keys() == {401, 429}
    assert answered.total() == FLOOD
    # Refusals are forgotten at the end of a minute, and by then the window has forgotten some requests. If that falls
    # into the flood, a few more pass, and as many as are under way ask once more.
    assert LIMIT <= answered[401] <= MOST
    assert LIMIT < monitor.checks(Keys(stage).limit("unverified")) <= MOST
    assert monitor.checks(Keys(stage).limit("subscription")) == GENUINE
    assert "Traceback" not in webhook.log()


def _webhook(gateway: GatewayProcess, stage: str, key_set: str, directory: Path) -> Part:
    port = steady_port()
    settings = environment(
        gateway,
        stage,
        TIDEMARK_PUSH_AUTH="on",
        TIDEMARK_PUSH_AUDIENCE=AUDIENCE,
        TIDEMARK_PUSH_SERVICE_ACCOUNT=SERVICE_ACCOUNT,
        TIDEMARK_PUSH_JWKS_URL=key_set,
        TIDEMARK_PUSH_LIMIT=str(LIMIT),
    )
    argv = [sys.executable, "-m", "infra.local.serve", "--port", str(port), "webhook"]
    environ = {**process_environment(settings), "PATH": os.environ.get("PATH", "")}
    return Part("webhook", port, argv, environment=environ, log=directory / "webhook.log", ready=answers)


async def _flood(port: int, signer: PushSigner) -> Counter[int]:
    """Send the flood over some connections; count the answers by their status."""
    good = signer.authorization()["Authorization"]
    forged = good[:-20] + "A" * 20
    strangers: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": forged},
        {"Authorization": forged, "X-Forwarded-For": "66.102.0.1"},
    ]
    posters = [Poster(Origin.local(port), headers) for headers in strangers]
    statuses: Counter[int] = Counter()

    async def connection(first: int) -> None:
        for number in range(first, FLOOD, AT_ONCE):
            poster = posters[number % len(posters)]
            status, *_ = await poster.post("/push", push_body(BOX, number, f"flood-{number}"), timeout_s=TIMEOUT_S)
            statuses[status] += 1

    try:
        await asyncio.gather(*(connection(number) for number in range(AT_ONCE)))
    finally:
        for poster in posters:
            await poster.aclose()
    return statuses


async def _push(port: int, signer: PushSigner) -> list[Any]:
    """Send genuine pushes all the while; return their answers."""
    poster = Poster(Origin.local(port), signer.authorization())
    told = []
    try:
        for number in range(GENUINE):
            body = push_body(BOX, 4711 + number, f"genuine-{number}")
            status, answer, _ = await poster.post("/push", body, timeout_s=TIMEOUT_S)
            told.append(answer)
            assert status == 200, answer
    finally:
        await poster.aclose()
    return told
