"""Who follows anything in this process, and what is said to one of them alone."""

from __future__ import annotations

from collections.abc import Iterator

from shared.follower import Follower


class Audience:
    """The followers of this process."""

    def __init__(self) -> None:
        self._followers: dict[str, Follower] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def __iter__(self) -> Iterator[Follower]:
        return iter(list(self._followers.values()))

    def add(self, follower: Follower) -> None:
        """Count a follower in; once more changes nothing."""
        self._followers[follower.connection] = follower

    def discard(self, follower: Follower) -> None:
        """Count a follower out."""
        self._followers.pop(follower.connection, None)
