"""The functions of one stage in the emulator, from their artifacts, over a real Redis, gateway and queues.

async with LambdaRig.running(directory, artifacts, gateway, queues, "webhook", "stream") as rig:
    await rig.start(Function.WEBHOOK)
    position = await rig.push("ann@example.com")
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster, Reply
from infra.chaos.pushes import Push
from shared.settings import Function
from tests.support import deployed
from tests.support.artifact import Artifacts
from tests.support.key_server import KeyServer
from tests.support.lambda_emulator import LambdaEmulator
from tests.support.lambda_environment import Environment, Kind
from tests.support.lambda_events import Reachable
from tests.support.log_rig import own_stage
from tests.support.queue_set import QueueSet
from tests.support.recorder import Recorder
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, push_token
from tests.support.stack import BYPASS_SECRET, KID, TOKEN_KEY

ANSWER_TIMEOUT_S = 20.0


class LambdaRig:
    """One stage."""

    def __init__(
        self, emulator: LambdaEmulator, artifacts: Artifacts, gateway: Reachable, queues: QueueSet, keys: KeyServer
    ) -> None:
        self.emulator = emulator
        self.artifacts = artifacts
        self.queues = queues
        self.keys = keys
        """Where the keys are published that pushes are signed with."""
        self.stage = own_stage()
        self._numbers = itertools.count(1)
        self._posters: dict[str, Poster] = {}
        self.settings = {
            "UPSTASH_REDIS_REST_URL": gateway.url,
            "UPSTASH_REDIS_REST_TOKEN": gateway.token,
            "TIDEMARK_STAGE": self.stage,
            "TIDEMARK_TOKEN_KEYS": f"{KID}:{TOKEN_KEY}",
            "TIDEMARK_BYPASS_SECRET": BYPASS_SECRET,
            "TIDEMARK_PUSH_AUDIENCE": PUSH_AUDIENCE,
            "TIDEMARK_PUSH_SERVICE_ACCOUNT": PUSH_ACCOUNT,
            "TIDEMARK_PUSH_JWKS_URL": keys.url,
            **queues.settings,
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, directory: Path, artifacts: Artifacts, gateway: Reachable, queues: QueueSet, *names: str
    ) -> AsyncIterator[LambdaRig]:
        """Start the emulator with functions of these names; nothing serves them yet."""
        async with (
            KeyServer.running(Issuer.rsa().jwk()) as keys,
            LambdaEmulator.running(directory, *names) as emulator,
        ):
            rig = cls(emulator, artifacts, gateway, queues, keys)
            try:
                yield rig
            finally:
                for poster in rig._posters.values():
                    await poster.aclose()

    async def begin(
        self,
        function: Function,
        *,
        name: str | None = None,
        artifact: Path | None = None,
        handler: str | None = None,
        without: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        timeout_s: float = 900,
        beside: Iterable[Path] = (),
    ) -> Environment:
        """Start one more environment of a function, under its own name or another one; returns at once."""
        given = {**self.settings, **(settings or {})}
        return await self.emulator.begin(
            name or function.value,
            Kind.ADAPTER if function is Function.STREAM else Kind.PYTHON,
            artifact or self.artifacts.of(function),
            handler or deployed.handler(function),
            {key: value for key, value in given.items() if key not in without},
            timeout_s=timeout_s,
            beside=beside,
        )

    async def start(self, function: Function, **how: Any) -> Environment:
        """Start one and wait until it can serve. Arguments are those of `begin`."""
        environment = await self.begin(function, **how)
        await environment.ready()
        return environment

    async def send(self, mailbox: str, *, to: str = "webhook", limited: bool = True) -> Reply:
        """Send a genuine push to the webhook and return what it answered."""
        number = next(self._numbers)
        headers = {"Authorization": f"Bearer {push_token(Issuer.rsa(), time.time(), exp=int(time.time()) + 86_000)}"}
        if not limited:
            headers["X-Tidemark-Bypass"] = BYPASS_SECRET
        if to not in self._posters:
            self._posters[to] = Poster(Origin.local(self.emulator.port(to)), headers)
        push = Push(mailbox, 9_000_000_000 + number, f"{number:012}")
        return await self._posters[to].post("/push", push.body(), timeout_s=ANSWER_TIMEOUT_S)

    async def push(self, mailbox: str, *, to: str = "webhook") -> str:
        """Have an event published and return its position."""
        reply = await self.send(mailbox, to=to)
        assert (reply.status, reply.said["status"]) == (200, "published"), reply
        return str(reply.said["id"])

    def client(self, mailbox: str, *, name: str = "tab", of: str = "stream", **how: Any) -> Recorder:
        """Give a client that follows a mailbox through a stream function's URL, and comes back at once."""
        return Recorder(self.emulator.port(of), [f"gmail:{mailbox}"], name=name, **how)


def positions(client: Recorder) -> list[str]:
    """Give the position of each event that came on any connection of a client, in order."""
    return [str(arrival.position) for connection in client.connections for arrival in connection.arrivals]


def has(client: Recorder, pushed: Sequence[str]) -> bool:
    """Tell whether as much has come as was pushed: then a test can say what it was."""
    return len(positions(client)) >= len(pushed)
