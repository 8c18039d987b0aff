"""Batches: each entry succeeds or fails on its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from infra.local.queue.errors import QueueError

T = TypeVar("T")


class Batch(Generic[T]):
    """What became of the entries, by their ids."""

    def __init__(self) -> None:
        self.taken: dict[str, T] = {}
        self.failed: dict[str, QueueError] = {}

    def add(self, entry_id: str, work: Callable[[], T], *, refuse_all_for: Collection[str] = ()) -> None:
        """Do the work for one entry. Raises QueueError for errors of the codes that refuse the whole batch."""
        try:
            self.taken[entry_id] = work()
        except QueueError as error:
            if error.code in refuse_all_for:
                raise
            self.failed[entry_id] = error

    def answer(self, successful: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
        """Give the answer to the request, with what `successful` says of each entry."""
        parts = {
            "Successful": [{"Id": entry_id, **successful(taken)} for entry_id, taken in self.taken.items()],
            "Failed": [error.entry(entry_id) for entry_id, error in self.failed.items()],
        }
        return {name: entries for name, entries in parts.items() if entries}
