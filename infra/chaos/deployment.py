"""Somebody's deployment as the ground of a run: only what is outside of it can be broken."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.chaos.checker import Death
from infra.chaos.http_proxy import HttpProxy
from infra.chaos.link import Link
from infra.chaos.origin import Origin
from infra.chaos.schedule import Episode
from infra.chaos.topology import LINKS, PROCESSES
from infra.local.push_signer import PushSigner
from shared.bypass import HEADER as BYPASS_HEADER
from shared.delivery import DeadLetter


@dataclass(frozen=True, slots=True)
class Target:
    """Where a deployment is, and what opens it. ``kid`` and ``token_key`` sign the tokens of clients."""

    webhook: str
    stream: str
    replay: str
    kid: str
    token_key: str = field(repr=False)
    bypass: str | None = field(repr=False)
    push_token_command: Sequence[str] | None
    push_key: Path
    """Signs pushes where no command gives their token."""

    def push_authorization(self) -> dict[str, str]:
        """Give the header of a push. Raises CalledProcessError when the command fails."""
        if self.push_token_command is None:
            return PushSigner.of(self.push_key).authorization()
        told = subprocess.run(self.push_token_command, check=True, stdout=subprocess.PIPE, text=True)
        return {"Authorization": f"Bearer {told.stdout.strip()}"}


class Deployment:
    """A deployment behind a proxy for each of its functions."""

    processes = ()
    unreadable = 0.0
    """Nothing is sent that would end among its dead letters."""

    def __init__(self, target: Target, seed: int) -> None:
        self.kid, self.token_key = target.kid, target.token_key
        self.deaths: list[Death] = []
        self.links = {spec.name: Link(spec, seed) for spec in LINKS if spec.from_client}
        # Of its own, so that it does not meet what another run has left there.
        self.prefix = f"chaos-{secrets.token_hex(4)}-"
        self.first_message_id = str(time.time_ns())
        self._target = target
        self._through: dict[str, int] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, target: Target, seed: int) -> AsyncIterator[Deployment]:
        """Put the proxies before it."""
        deployment = cls(target, seed)
        async with contextlib.AsyncExitStack() as open_:
            for name, link in deployment.links.items():
                proxy = HttpProxy(link, deployment.direct(link.spec.target), renamed=True)
                deployment._through[name] = (await open_.enter_async_context(proxy.running())).port
            yield deployment

    @property
    def headers(self) -> dict[str, str]:
        """What every request of a client carries besides its token."""
        return {} if self._target.bypass is None else {BYPASS_HEADER: self._target.bypass}

    @property
    def hurt(self) -> set[str]:
        """The clients' connections that a fault has hit."""
        return set().union(*(link.hurt for link in self.links.values()))

    def push_headers(self) -> dict[str, str]:
        """Give what every push carries."""
        return {**self.headers, **self._target.push_authorization()}

    def through(self, link: str) -> Origin:
        """Give the address by which clients reach a function: the proxy's."""
        return Origin.local(self._through[link])

    def direct(self, part: str) -> Origin:
        """Give the address of a function itself."""
        return Origin.of(str(getattr(self._target, part)))

    async def suffer(self, episode: Episode) -> None:
        """Have one fault."""
        await self.links[episode.where].suffer(episode)

    async def drained(self) -> bool:
        """Its queues cannot be seen: what counts is what arrives."""
        return True

    def complaints(self) -> list[str]:
        """Return nothing: its logs are elsewhere."""
        return []

    async def dead_letters(self) -> list[DeadLetter] | None:
        """They cannot be seen either."""
        return None


def left_out() -> Iterator[str]:
    """Say what is not done to a deployment."""
    inside = ", ".join(spec.name for spec in LINKS if not spec.from_client)
    yield f"faults that cannot be had from outside are left out: those of {inside}; SIGKILL of {', '.join(PROCESSES)}"
    yield "what its queues and dead letters hold is not looked at, nor what it logs"
