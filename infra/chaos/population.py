"""Who takes part in a run besides the faults: mailboxes, their mail, and clients of every kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from infra.chaos.checker import Witness
from infra.chaos.origin import Origin
from infra.chaos.poller import AckingClient, Poller
from infra.chaos.poster import Poster
from infra.chaos.stream_client import Resume, StreamClient
from shared.tokens import mint

MAILBOXES = 10
_TOKEN_LIFE_S = 3600
_LEAVES_AFTER_S = (0.5, 3.0)


class Client(Witness, Protocol):
    """A client that can be run."""

    @property
    def greeted(self) -> bool:
        """Whether it has a cursor to come back with."""

    async def run(self) -> None:
        """Follow until cancelled."""


class Population:
    """Clients of one run. ``prefix`` makes its mailboxes its own; ``kid`` and ``key`` sign tokens."""

    def __init__(
        self, *, prefix: str, kid: str, key: str, stream: Origin, replay: Origin, seed: int, headers: dict[str, str]
    ) -> None:
        self.mailboxes = [f"{prefix}{n}@example.com" for n in range(MAILBOXES)]
        self.topics = [f"gmail:{mailbox}" for mailbox in self.mailboxes]
        self._prefix = prefix
        self._kid, self._key = kid, key
        self._stream, self._replay = stream, replay
        self._headers = headers
        self._posters: list[Poster] = []
        self.clients: list[Client] = self._make(seed)

    def poster(self, name: str, origin: Origin) -> Poster:
        """Make a connection to the replay function for a user of this name."""
        poster = Poster(origin, {**self._headers, "Authorization": f"Bearer {self._token(name)}"})
        self._posters.append(poster)
        return poster

    async def aclose(self) -> None:
        """Close every connection of a poster."""
        for poster in self._posters:
            await poster.aclose()

    def _token(self, name: str) -> str:
        # Each is a user of its own: how many streams one user may have is not what is tested.
        now = time.time()
        return mint(name, [f"gmail:{self._prefix}*"], kid=self._kid, key=self._key, ttl_s=_TOKEN_LIFE_S, now=now)

    def _make(self, seed: int) -> list[Client]:
        topics = self.topics
        follow = self._follower
        acking = f"{self._prefix}acking"
        return [
            follow("single", topics[:1], resume=Resume.HEADER),
            follow("several", topics[:4], resume=Resume.HEADER),
            follow("all", topics, resume=Resume.HEADER),
            follow("restless", topics[2:6], resume=Resume.HEADER, leaves_after_s=_LEAVES_AFTER_S),
            follow("fresh", topics[1:2], resume=Resume.QUERY, leaves_after_s=(2.0, 6.0)),
            AckingClient(
                self.poster(acking, self._replay),
                self._stream,
                topics[5:8],
                name=acking,
                token=self._token(acking),
                headers=self._headers,
                leaves_after_s=(1.0, 4.0),
            ),
            Poller(
                self.poster(f"{self._prefix}polling", self._replay),
                topics[6:],
                name=f"{self._prefix}polling",
                seed=seed,
            ),
        ]

    def _follower(
        self,
        name: str,
        topics: Sequence[str],
        *,
        resume: Resume,
        leaves_after_s: tuple[float, float] | None = None,
    ) -> StreamClient:
        name = f"{self._prefix}{name}"
        return StreamClient(
            self._stream,
            topics,
            name=name,
            token=self._token(name),
            headers=self._headers,
            resume=resume,
            leaves_after_s=leaves_after_s,
        )
