"""Cold start of what sends to the queues."""

from __future__ import annotations

from shared.delivery_queue import Confirmation, DeliveryQueue
from shared.sqs import Sqs
from shared.start import Basis


def delivery_queue(basis: Basis) -> DeliveryQueue | None:
    """Build what keeps pushes while the log is away, where there is a queue."""
    queues = basis.settings.queues
    return None if queues is None else DeliveryQueue(Sqs(queues.delivery, queues.access))


def confirmation(basis: Basis) -> Confirmation | None:
    """Build what has pushes appended a second time, if that is wanted."""
    queues = basis.settings.queues
    if queues is None or queues.confirmation is None or queues.confirm_s is None:
        return None
    return Confirmation(Sqs(queues.confirmation, queues.access), queues.confirm_s)
