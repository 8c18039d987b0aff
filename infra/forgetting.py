"""Erases what is held about a mailbox, in an order in which nothing is brought back that was erased before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from infra.mentions import Mentions
from infra.sweep import number_of, sweeping
from shared.delivery import DeadLetter, Delivery, Event, UnreadableDeliveryError
from shared.errors import LogUnavailableError, Trouble
from shared.keys import Keys
from shared.log import READ_TIMEOUT_S, Log
from shared.sqs import Message, Sqs
from shared.topic import gmail_topic
from shared.upstash import Upstash

_KEYS_A_SCAN = 1000
#: A parked push is up to 350 KB, and Upstash answers with 10 MB at most.
_PARKED_A_READ = 20


@dataclass(slots=True)
class Counts:
    """What was erased, and what could not be looked at: it is in somebody's hands (``in_flight``), or ``delayed``."""

    queued: int = 0
    confirmations: int = 0
    dead_letters: int = 0
    parked: int = 0
    events: int = 0
    acks: int = 0
    in_flight: int = 0
    delayed: int = 0
    unfinished: int = 0
    """Queues that could not be seen to their end."""


class Mailbox:
    """Tells whether a message is a mailbox's."""

    def __init__(self, address: str) -> None:
        self.topic = gmail_topic(address)
        self._mentions = Mentions(address)

    def has(self, text: str) -> bool:
        """Return whether the text of a queue's message, a dead letter's or any other, is its or names it."""
        delivery = delivery_in(text)
        if delivery is None:
            return self._mentions.in_text(text)
        content = delivery.content
        if isinstance(content, Event):
            return content.topic == self.topic
        return self._mentions.in_bytes(content.head) or any(map(self._mentions.in_text, content.pubsub.values()))


def delivery_in(text: str) -> Delivery | None:
    """Return what is to be delivered in the text of a message or a dead letter, if it can be read."""
    with contextlib.suppress(UnreadableDeliveryError):
        text = DeadLetter.parse(text).message
    try:
        return Delivery.parse(text)
    except UnreadableDeliveryError:
        return None


class Forgetting:
    """Erases one mailbox. ``say`` is told what people should know.

    Every method raises QueueUnavailableError, LogUnavailableError or LogDefectError, and may be called again.
    """

    def __init__(
        self, mailbox: Mailbox, upstash: Upstash, keys: Keys, log: Log, *, dedupe_s: int, say: Callable[[str], None]
    ) -> None:
        self._mailbox = mailbox
        self._upstash = upstash
        self._keys = keys
        self._log = log
        self._dedupe_s = dedupe_s
        self._say = say
        self.counts = Counts()

    async def queues(self, delivery: Sqs, confirmation: Sqs | None, dead_letters: Sqs) -> None:
        """Erase what waits, and then what has died: what waits may die meanwhile, and not the other way round."""
        # Asked before anything is deleted: a log that is away leaves everything as it was.
        clock = str((await self._log.read({}, limit=1)).clock)
        self.counts.queued += await self._queue(delivery, clock)
        if confirmation is not None:
            self.counts.confirmations += await self._queue(confirmation, clock)
        self.counts.dead_letters += await self._queue(dead_letters, clock)

    async def redis(self, users: Collection[str]) -> None:
        """Erase the log, what is parked, and the acks of users."""
        self.counts.parked += await self._parked()
        self.counts.events += await self._log.forget(self._mailbox.topic)
        for user in users:
            self.counts.acks += await self._acks(user)

    async def _queue(self, sqs: Sqs, clock: str) -> int:
        erased = 0
        async with sweeping(sqs, self._say) as sweep:
            async for messages in sweep.batches():
                its = [message for message in messages if self._mailbox.has(message.body)]
                await self._know(its, clock)
                await sweep.delete(its)
                erased += len(its)
            self.counts.in_flight += await sweep.elsewhere()
            self.counts.unfinished += sweep.unfinished
        self.counts.delayed += number_of(await sqs.attributes(), "ApproximateNumberOfMessagesDelayed")
        return erased

    async def _know(self, messages: Sequence[Message], clock: str) -> None:
        """Have the log know these as stored, so that a copy which comes later is not: one that confirms, perhaps."""
        inside = [delivery_in(message.body) for message in messages]
        events = [delivery.content for delivery in inside if delivery and isinstance(delivery.content, Event)]
        if events:
            seen = [self._keys.seen(event.subscription, event.message_id) for event in events]
            commands: list[list[str | int]] = [["SET", key, clock, "EX", self._dedupe_s, "NX"] for key in seen]
            await self._upstash.execute_all(commands, timeout_s=READ_TIMEOUT_S)

    async def _parked(self) -> int:
        its: set[str] = set()
        start = 0
        while found := await self._redis("LRANGE", self._keys.parked, start, start + _PARKED_A_READ - 1):
            its.update(text for text in found if self._mailbox.has(text))
            start += len(found)
        # Afterwards: taking one out moves the others up.
        return sum([int(await self._redis("LREM", self._keys.parked, 0, text)) for text in its])

    async def _acks(self, user: str) -> int:
        erased = cursor = 0
        while True:
            answer = await self._redis("SCAN", cursor, "MATCH", self._keys.acks(user), "COUNT", _KEYS_A_SCAN)
            try:
                cursor, found = int(answer[0]), list(answer[1])
            except (TypeError, ValueError, LookupError) as error:
                raise LogUnavailableError(
                    "SCAN was answered with something unreadable", Trouble.UNREADABLE
                ) from error
            if found:
                erased += int(await self._redis("DEL", *found))
            if cursor == 0:
                return erased

    async def _redis(self, *command: str | int) -> Any:
        return await self._upstash.execute(command, timeout_s=READ_TIMEOUT_S)
