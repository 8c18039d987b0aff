"""What happens in a month, whatever it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from infra.cost.assumptions import DAYS, MONTH_S, Assumptions


@dataclass(frozen=True, slots=True)
class Load:
    """A month of 730 hours: how often each thing happens, and how many bytes go to clients."""

    pushes: float
    #: With those that come a second time.
    received: float
    deliveries: float
    stream_h: float
    #: A stream's life on average, s.
    life_s: float
    opens: float
    #: Hours that streams go on whose clients have left, where that goes unseen.
    unseen_h: float
    heartbeats: float
    acks: float
    replays: float
    stream_bytes: float
    replay_bytes: float
    #: The busiest second.
    pushes_s: float

    @classmethod
    def of(cls, given: Assumptions) -> Load:
        """Reckon it."""
        users = given.streams / given.streams_per_user
        pushes = users * given.pushes_per_user_day * DAYS
        received = pushes * (1 + given.resent)
        deliveries = pushes * given.streams_per_user
        stream_h = given.streams * given.hours * DAYS
        life_s = given.rotation_s * given.life
        vanished = given.streams * given.vanish_per_day * DAYS
        opens = stream_h * 3600 / life_s + vanished
        heartbeats = stream_h * 3600 / given.heartbeat_s
        acks = given.streams * given.acks_per_day * DAYS
        replays = users * given.replays_per_day * DAYS
        return cls(
            pushes=pushes,
            received=received,
            deliveries=deliveries,
            stream_h=stream_h,
            life_s=life_s,
            opens=opens,
            # A client leaves in the middle of a stream's life, on average.
            unseen_h=vanished * life_s / 2 / 3600,
            heartbeats=heartbeats,
            acks=acks,
            replays=replays,
            stream_bytes=(
                deliveries * (given.event_bytes + given.packet_bytes)
                + heartbeats * (given.heartbeat_bytes + given.packet_bytes)
                + opens * given.open_bytes
            ),
            replay_bytes=(acks + replays) * given.open_bytes,
            pushes_s=received / MONTH_S * given.peak,
        )
