"""Clients whose connections are cut all the time, while mail comes in."""

from __future__ import annotations

import logging
from pathlib import Path

from infra.chaos.pushes import traffic
from tests.support.cutting_proxy import seeded
from tests.support.delaying_proxy import Delay
from tests.support.delivery import Delivery
from tests.support.recorder import live_resumes

logger = logging.getLogger(__name__)

SEED = 20_261
PUSHES = 2000
PER_S = 200
MAILBOXES = [f"box{n:02}@example.com" for n in range(50)]
MIN_CUTS = 10
MIN_INSIDE_FRAME = 0.3
MIN_LIVE_RESUMES = 100


def _as_far_as_a_region(request_line: str) -> Delay:
    """Answer commands as a database elsewhere would: reads and live events overlap."""
    return Delay(answer_s=0.01 if "subscribe/" in request_line else 0.08)


async def test_clients_cut_off_again_and_again_get_each_event_of_their_mailbox_once(tmp_path: Path) -> None:
    """Wherever a connection breaks, in a frame or between two, the last id brings the client everything after it.

    2,000 pushes at 200/s to 50 mailboxes, a client each; every client is cut off ten times or more.
    """
    follows = {f"client{n}": [f"gmail:{mailbox}"] for n, mailbox in enumerate(MAILBOXES)}
    plan = seeded(SEED, (250, 1800), early=14, later_bytes=(2000, 8000))
    async with Delivery.running(tmp_path, follows, plan=plan, delay=_as_far_as_a_region) as delivery:
        await delivery.send(traffic(MAILBOXES, PUSHES, seed=SEED), per_s=PER_S)
        await delivery.complete()
    logger.info("%s", delivery)
    assert delivery.faults() == []
    assert len(delivery.sender.positions) == PUSHES
    assert delivery.fewest_cuts >= MIN_CUTS
    assert delivery.inside_frame >= MIN_INSIDE_FRAME
    assert live_resumes(delivery.clients) >= MIN_LIVE_RESUMES
