"""Who follows anything in this process, and what is said to one of them alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.follower import Follower
from shared.signal import REASONS, Ack, End


class Audience:
    """The followers of this process, by their connections, and by their clients where they want to hear of acks."""

    def __init__(self) -> None:
        self._followers: dict[str, Follower] = {}
        self._acking: dict[tuple[str, str], dict[str, Follower]] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def __iter__(self) -> Iterator[Follower]:
        return iter(list(self._followers.values()))

    def add(self, follower: Follower) -> None:
        """Count a follower in; once more changes nothing."""
        self._followers[follower.connection] = follower
        if follower.wants_acks:
            self._acking.setdefault((follower.user, follower.client), {})[follower.connection] = follower

    def discard(self, follower: Follower) -> None:
        """Count a follower out."""
        self._followers.pop(follower.connection, None)
        client = (follower.user, follower.client)
        acking = self._acking.get(client)
        if acking is not None:
            acking.pop(follower.connection, None)
            if not acking:
                del self._acking[client]

    def hear(self, signal: End | Ack) -> None:
        """Tell those whom it concerns, if they are here."""
        if isinstance(signal, Ack):
            for follower in list(self._acking.get((signal.user, signal.client), {}).values()):
                follower.acked(signal.cursor)
        elif signal.reason in REASONS and signal.connection in self._followers:
            self._followers[signal.connection].slot_lost(signal.reason)

    def waiting(self) -> Sequence[tuple[str, str]]:
        """Return the clients, each by its hashed user and its name, whose acks somebody waits for."""
        return [client for client, acking in self._acking.items() if any(f.waits_for_ack for f in acking.values())]
