"""The whole stack as processes, with a proxy on every link between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from infra.chaos.checker import Death
from infra.chaos.http_proxy import HttpProxy
from infra.chaos.key_server import PATH, key_server, signer
from infra.chaos.link import Link
from infra.chaos.origin import Origin
from infra.chaos.part import ROOT, START_TIMEOUT_S, Part, PartError, answers
from infra.chaos.queue_watch import QueueWatch
from infra.chaos.resp_proxy import RespProxy
from infra.chaos.schedule import Episode
from infra.chaos.topology import KEYS, LINKS, PROCESSES, Dialect, Kind
from infra.local.gateway import TOKEN_VARIABLE
from infra.local.loopback import HOST, steady_port
from infra.local.push_signer import AUDIENCE, SERVICE_ACCOUNT
from infra.local.queues import QUEUES, queue_access, queue_settings
from infra.local.redis_server import server_argv, wait_ready
from shared.delivery import DeadLetter

KID = "chaos"
RECONCILE_S = 2
BREAKER_S = 2
#: A message that was received and whose receiver is gone comes back after this. Handling a batch takes less.
HIDDEN_S = 8
#: With every so many seeds each push is confirmed, after so long.
CONFIRMED_SEEDS = 4
CONFIRM_S = 2
#: How a line begins that tells of a defect. Python's own words, and those of the logger.
_COMPLAINTS = ("Traceback ", '{"level": "ERROR"', '{"level": "CRITICAL"')
#: Settings of the caller that must not reach a part.
_FOREIGN = ("TIDEMARK_", "UPSTASH_", "AWS_", "SENTRY_", "POWERTOOLS_")


class Stack:
    """Every part of `PROCESSES` and every link of `LINKS`."""

    kid = KID
    processes = PROCESSES
    unreadable = 0.01
    first_message_id = ""

    def __init__(self, directory: Path, seed: int) -> None:
        self.links = {spec.name: Link(spec, seed) for spec in LINKS}
        self.parts: dict[str, Part] = {}
        self.deaths: list[Death] = []
        self.token_key = secrets.token_urlsafe(32)
        self.prefix = f"chaos{seed}-"
        self._directory = directory
        self._ports = {name: steady_port() for name in PROCESSES}
        self._through: dict[str, int] = {}
        self._killed = Counter[str]()
        self._secret = secrets.token_urlsafe(24)
        self._queue_file = directory / "queues.sqlite"
        self._queues = QueueWatch(self.direct("queue"), self._secret, self._queue_file)
        self._confirm_s = CONFIRM_S if seed % CONFIRMED_SEEDS == 0 else None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, seed: int) -> AsyncIterator[Stack]:
        """Start everything; at the end every process is killed. Raises PartError."""
        stack = cls(directory, seed)
        async with contextlib.AsyncExitStack() as open_:
            open_.push_async_callback(stack._queues.close)
            stack._ports[KEYS] = await open_.enter_async_context(key_server())
            for name, link in stack.links.items():
                upstream = Origin.local(stack._ports[link.spec.target])
                if link.spec.dialect is Dialect.RESP:
                    port = (await open_.enter_async_context(RespProxy(link, upstream).running())).port
                else:
                    port = (await open_.enter_async_context(HttpProxy(link, upstream).running())).port
                stack._through[name] = port
            stack._build()
            try:
                await asyncio.gather(*(part.start() for part in stack.parts.values()))
                yield stack
            finally:
                for part in stack.parts.values():
                    part.kill()

    def through(self, link: str) -> Origin:
        """Give the address by which a link's source reaches its target: the proxy's."""
        return Origin.local(self._through[link])

    def direct(self, part: str) -> Origin:
        """Give the address of a part itself."""
        return Origin.local(self._ports[part])

    @property
    def headers(self) -> dict[str, str]:
        """What every request of a client carries: nothing but its token."""
        return {}

    def push_headers(self) -> dict[str, str]:
        """Give what every push carries."""
        return signer().authorization()

    async def drained(self) -> bool:
        """Say whether nothing waits in a queue any more."""
        return await self._queues.drained()

    async def dead_letters(self) -> list[DeadLetter]:
        """Return every dead letter; the queues are gone then. Raises UnreadableDeliveryError."""
        self.parts["queue"].kill()
        return await self._queues.dead_letters()

    def complaints(self) -> list[str]:
        """Return what the processes have logged of defects of their own."""
        return [f"{name} logged: {line}" for name, part in self.parts.items() for line in complaints_in(part.log())]

    @property
    def hurt(self) -> set[str]:
        """The clients' connections that a fault has hit."""
        return set().union(*(link.hurt for link in self.links.values()))

    async def suffer(self, episode: Episode) -> None:
        """Have one fault, from now on for as long as it lasts. Raises PartError."""
        if episode.kind is not Kind.KILL:
            await self.links[episode.where].suffer(episode)
            return
        part = self.parts[episode.where]
        self.deaths.append(Death(part.name, time.time()))
        part.kill()
        self._killed[part.name] += 1
        killed = self._killed[part.name]
        await asyncio.sleep(episode.lasts_s)
        try:
            await part.start()
        except PartError:
            # One that was killed again while it started is the later fault's to bring back.
            if killed == self._killed[part.name]:
                raise

    # -- what each part is

    def _build(self) -> None:
        redis = self._directory / "redis"
        redis.mkdir(parents=True)
        self._add("redis", server_argv(self._ports["redis"], redis), {}, ready=_redis_answers)
        redis_url = f"redis://{HOST}:{self._through['gateway->redis']}"
        self._add("gateway", self._module("gateway", "--redis-url", redis_url), {TOKEN_VARIABLE: self._secret})
        queues = ["--data", str(self._queue_file)]
        for queue in QUEUES:
            queues += ["--queue", queue]
        self._add("queue", self._module("queue_server", *queues, of="queue"), queue_access(self._secret))
        deliver = [sys.executable, "-m", "infra.local.event_source", "--hidden-s", str(HIDDEN_S)]
        self._add("deliver", deliver, self._function("deliver"), ready=_at_once)
        for name in ("webhook", "replay"):
            self._add(name, self._module("serve", name, of=name), self._function(name))
        stream = ["sh", str(ROOT / "functions" / "stream" / "run.sh")]
        self._add("stream", stream, {**self._function("stream"), "PORT": str(self._ports["stream"])})

    def _function(self, name: str) -> Mapping[str, str]:
        """Return the settings of a function: its ways to the others all lead through proxies."""
        settings = {
            "UPSTASH_REDIS_REST_URL": self._url(name, "gateway"),
            "UPSTASH_REDIS_REST_TOKEN": self._secret,
            "TIDEMARK_TOKEN_KEYS": f"{KID}:{self.token_key}",
            "TIDEMARK_RECONCILE_S": str(RECONCILE_S),
            "TIDEMARK_BREAKER_S": str(BREAKER_S),
        }
        if name == "webhook":
            settings |= {
                "TIDEMARK_PUSH_AUDIENCE": AUDIENCE,
                "TIDEMARK_PUSH_SERVICE_ACCOUNT": SERVICE_ACCOUNT,
                "TIDEMARK_PUSH_JWKS_URL": self._url(name, KEYS) + PATH,
            }
        if name in ("webhook", "deliver"):
            settings |= queue_settings(self._url(name, "queue"), self._secret)
            if self._confirm_s is not None:
                settings["TIDEMARK_CONFIRM_S"] = str(self._confirm_s)
        return settings

    def _url(self, source: str, target: str) -> str:
        return f"http://{HOST}:{self._through[f'{source}->{target}']}"

    def _module(self, module: str, *arguments: str, of: str = "") -> list[str]:
        port = str(self._ports[of or module])
        return [sys.executable, "-m", f"infra.local.{module}", "--port", port, *arguments]

    def _add(
        self,
        name: str,
        argv: list[str],
        settings: Mapping[str, str],
        *,
        ready: Callable[[int], Awaitable[None]] = answers,
    ) -> None:
        base = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        # run.sh starts the python3 on the PATH.
        path = f"{Path(sys.executable).parent}{os.pathsep}{base.get('PATH', '')}"
        environment = {**base, "PATH": path, **settings}
        log = self._directory / f"{name}.log"
        self.parts[name] = Part(name, self._ports[name], argv, environment=environment, log=log, ready=ready)


def complaints_in(log: str) -> list[str]:
    """Return the lines of a log that tell of a defect: no fault of another part is one."""
    return [line for line in log.splitlines() if line.startswith(_COMPLAINTS)]


async def _at_once(_port: int) -> None:
    """Return at once: it serves nobody."""


async def _redis_answers(port: int) -> None:
    await wait_ready(port, START_TIMEOUT_S)
