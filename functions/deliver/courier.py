"""What becomes of one message of a queue: into the log, back into the queue, or to the dead letters."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from shared.counts import Counts
from shared.dead_letters import DeadLetters
from shared.delivery import DeadLetter, Death, Delivery, Event, UnreadableDeliveryError
from shared.delivery_queue import Confirmation
from shared.envelope import envelope_of
from shared.errors import CircuitOpenError, LogUnavailableError, QueueUnavailableError
from shared.log import Log
from shared.push import UnreadablePushError, parse_push, rfc3339
from shared.sqs import MAX_MESSAGE_BYTES

logger = logging.getLogger("tidemark.deliver")

#: SQS drops what it has kept for 14 days without a word: what waits for the log is moved before that.
TEMPORARY_FOR_S = 13 * 86_400
TRIES = 3
FIRST_PAUSE_S = 0.5
#: A copy that confirms is of no use after the dedupe time, less what a clock may be off.
_CLOCK_SKEW_S = 60
_MOST_REASON = 1000
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record of a batch: ``source`` is the name of its queue, ``receives`` counts how often it was received."""

    source: str
    body: str
    receipt: str
    group: str | None
    receives: int
    sent_s: float

    @classmethod
    def of(cls, record: SQSRecord) -> Parcel:
        """Read a record."""
        attributes = record.attributes
        return cls(
            source=record.event_source_arn.rpartition(":")[2],
            body=record.body,
            receipt=record.receipt_handle,
            group=attributes.message_group_id,
            receives=int(attributes.approximate_receive_count),
            sent_s=int(attributes.sent_timestamp) / 1000,
        )


class Courier:
    """Delivers messages. Nothing is done twice by doing it again: the log knows each push.

    ``now`` is Unix seconds. Counts ``delivered``, ``delivered_before`` (the log had it), ``confirmed``,
    ``restored`` (a failover had forgotten it), ``confirmations_expired``, ``unconfirmed`` (delivered, but no copy
    could be kept), ``came_back`` (a try that failed) and ``dead_letters``.
    """

    def __init__(
        self,
        log: Log,
        dead_letters: DeadLetters,
        counts: Counts,
        *,
        confirmation: Confirmation | None,
        delivery_queue: str,
        dedupe_s: int,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._log = log
        self._dead_letters = dead_letters
        self._counts = counts
        self._confirmation = confirmation
        self._delivery_queue = delivery_queue
        self._dedupe_s = dedupe_s
        self._now = now
        self._sleep = sleep

    async def deliver(self, record: SQSRecord) -> None:
        """Bring a message to where it belongs; it may be deleted then.

        Raises LogUnavailableError or QueueUnavailableError when it must come back later, and whatever else is a
        defect for the first times: then the message is moved, for it must not hold up its group for ever.
        """
        parcel = Parcel.of(record)
        try:
            await self._deliver(parcel)
        except CircuitOpenError:
            # That the breaker is open was logged once.
            raise
        except (LogUnavailableError, QueueUnavailableError) as error:
            self._counts.count("came_back")
            logger.warning("a message comes back later", extra={"code": error.code, "reason": str(error)})
            raise
        except Exception as error:  # nobody knows it: a few tries, then a person has to look
            if parcel.receives < TRIES:
                self._counts.count("came_back")
                logger.warning("a message comes back later", exc_info=error)
                raise
            logger.exception("a message cannot be delivered")
            await self._bury(parcel, Death.UNKNOWN, f"{type(error).__name__}: {error}", parcel.receives)

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            delivery = Delivery.parse(parcel.body)
            event = self._event(delivery)
        except (UnreadableDeliveryError, UnreadablePushError) as error:
            await self._bury(parcel, Death.POISON, str(error), parcel.receives)
            return
        if parcel.source != self._delivery_queue:
            await self._confirm(parcel, event)
        elif await self._append_or_bury(parcel, event) and self._confirmation is not None:
            # Appended later than the copy which the webhook has sent was meant for: it needs one of its own.
            await self._copy(self._confirmation, parcel, delivery)

    async def _copy(self, confirmation: Confirmation, parcel: Parcel, delivery: Delivery) -> None:
        """Have an event confirmed. Raises QueueUnavailableError, but not for ever.

        The event is in the log, and the ones behind it wait: a queue that stays away must not hold them up.
        """
        try:
            await confirmation.put(delivery)
        except QueueUnavailableError as error:
            if parcel.receives < TRIES:
                raise
            self._counts.count("unconfirmed")
            logger.error("a delivered push is not confirmed", extra={"reason": str(error)})  # noqa: TRY400

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._dead_letters.settle()
        if self._confirmation is not None:
            await self._confirmation.settle()

    def _event(self, delivery: Delivery) -> Event:
        """Return the event of a delivery; a push that could not be read before is read again, for it was put back."""
        push = delivery.content
        if isinstance(push, Event):
            return push
        if not push.is_whole:
            raise UnreadablePushError(f"over 256 KiB ({push.size} bytes): only its head was kept")
        note = parse_push(push.head, push.pubsub, received_at=datetime.fromisoformat(delivery.accepted_at))
        return Event(note.topic, envelope_of(note), note.subscription, note.message_id)

    async def _confirm(self, parcel: Parcel, event: Event) -> None:
        """Append a push a second time, which changes nothing unless a failover has forgotten it."""
        if self._age_s(parcel) >= self._dedupe_s - _CLOCK_SKEW_S:
            # The log may not know it again; it would stand there twice, and older than what is replayed.
            self._counts.count("confirmations_expired")
            return
        if await self._append_or_bury(parcel, event):
            self._counts.count("confirmed")

    async def _append_or_bury(self, parcel: Parcel, event: Event) -> bool:
        """Return whether the event is in the log; otherwise it is among the dead letters."""
        pause_s = FIRST_PAUSE_S
        for tried in range(1, TRIES + 1):
            try:
                await self._append(parcel, event)
            except LogUnavailableError as error:
                if self._age_s(parcel) < TEMPORARY_FOR_S:
                    raise
                await self._bury(parcel, Death.TEMPORARY, str(error), parcel.receives)
                return False
            except Exception as error:  # the same
                if tried == TRIES:
                    logger.exception("a message cannot be delivered")
                    reason = f"{type(error).__name__}: {error}"
                    await self._bury(parcel, Death.UNKNOWN, reason, parcel.receives - 1 + TRIES)
                    return False
                await self._sleep(pause_s)
                pause_s *= 2
            else:
                return True
        raise AssertionError("not reached")

    async def _append(self, parcel: Parcel, event: Event) -> None:
        appended = await self._log.append(
            topic=event.topic,
            envelope=event.envelope,
            subscription=event.subscription,
            message_id=event.message_id,
            timeout_s=self._log.append_timeout_s,
        )
        if parcel.source == self._delivery_queue:
            self._counts.count("delivered_before" if appended.duplicate else "delivered")
        elif not appended.duplicate:
            self._counts.count("restored")
            logger.warning("an event that the log had forgotten is restored", extra={"id": str(appended.position)})

    async def _bury(self, parcel: Parcel, death: Death, reason: str, attempts: int) -> None:
        """Move a message to the dead letters. Raises QueueUnavailableError, and then it stays where it is."""
        letter = DeadLetter(
            death=death,
            reason=reason[:_MOST_REASON],
            first_seen=_first_seen(parcel),
            died_at=rfc3339(datetime.fromtimestamp(self._now(), UTC)),
            attempts=attempts,
            message=parcel.body,
        )
        if len(letter.to_json()) > MAX_MESSAGE_BYTES:
            # Poison of nearly the largest size there is, and quoted it is larger.
            digest = hashlib.sha256(parcel.body.encode()).hexdigest()
            cut = f" (only its head is kept, of {len(parcel.body)} characters; sha256 {digest})"
            letter = letter._replace(reason=letter.reason + cut, message=parcel.body[:_HEAD])
        await self._dead_letters.bury(letter)
        self._counts.count("dead_letters")
        logger.error("dead letter", extra={"death": death.value, "reason": reason, "attempts": attempts})

    def _age_s(self, parcel: Parcel) -> float:
        return self._now() - parcel.sent_s


def _first_seen(parcel: Parcel) -> str:
    """Return when a push came; of what is none, when the queue got it."""
    try:
        return Delivery.parse(parcel.body).accepted_at
    except UnreadableDeliveryError:
        return rfc3339(datetime.fromtimestamp(parcel.sent_s, UTC))
