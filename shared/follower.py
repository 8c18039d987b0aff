"""What a stream is to the hub, and what the hub offers it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shared import sse
from shared.entry import Entry, Gap
from shared.envelope import low_priority_key
from shared.log import Revocation
from shared.position import Position


class Event(NamedTuple):
    """An event, encoded: ``data`` is its frame without an id, ``framed`` the same with its own position as id.

    ``low`` is the key of an event of low priority: a newer one of the same topic and key may take its place.
    """

    topic: str
    position: Position
    data: bytes
    framed: bytes
    low: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> Event:
        """Encode an entry."""
        data = sse.event_data(entry)
        framed = sse.id_line(entry.position) + data
        return cls(entry.topic, entry.position, data, framed, low_priority_key(entry.envelope))


class Proven(NamedTuple):
    """Everything of a topic up to a position has been handed out."""

    topic: str
    position: Position


class Follower(Protocol):
    """A stream, as the hub sees it. Its methods are called from the event loop and must not block or raise."""

    @property
    def user(self) -> str:
        """Whose it is, hashed."""

    @property
    def client(self) -> str:
        """The name that the client gave itself, or was given."""

    @property
    def connection(self) -> str:
        """What tells it from every other stream anywhere, also of the same client."""

    @property
    def wants_acks(self) -> bool:
        """Whether it must hear of its client's acks. The same for as long as it lives."""

    @property
    def waits_for_ack(self) -> bool:
        """Whether it stands still until it hears of one."""

    def offer(self, item: Event | Gap | Proven) -> None:
        """Take an item. Items of a topic come in rising positions."""

    def revoked(self, revocation: Revocation) -> None:
        """Hear of a revocation, which may be somebody else's."""

    def acked(self, position: Position) -> None:
        """Hear up to where its client has everything. It may come twice, and late."""

    def slot_lost(self, reason: str) -> None:
        """Hear that its slot was taken away: ``superseded`` or ``evicted``. It may come twice."""
