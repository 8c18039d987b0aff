"""Upstream connections that fall silent without closing: nobody says so, and nothing may be missed."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from infra.chaos.pushes import Push, traffic
from tests.support.delaying_proxy import DelayingProxy
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following
from tests.support.stack import Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

RECONCILE_S = 3
#: What a reconcile takes besides, on a busy machine.
MARGIN_S = 2.0
FEEDS = ("/subscribe/", "/psubscribe/")


async def _arrives(client: Recorder, push: Push, *, timeout_s: float) -> float:
    """Wait until a client has the event of a push; return how long that took, in seconds."""
    began = time.monotonic()
    await until(lambda: push.key in client.events, "the event arrives", timeout_s=timeout_s)
    return time.monotonic() - began


@pytest.mark.parametrize("mailboxes", [1, 40], ids=["a channel", "a pattern"])
async def test_a_feed_that_falls_silent_delays_events_by_one_reconcile_and_is_opened_anew(
    tmp_path: Path, mailboxes: int
) -> None:
    """The connection stays open and says nothing. The next reconcile brings the event, then the feed is live again.

    Few mailboxes have a feed each, many share one pattern feed.
    """
    boxes = [f"box{n:02}@example.com" for n in range(mailboxes)]
    pushes = iter(traffic(boxes[:1], 20, seed=mailboxes))
    async with (
        DelayingProxy.running() as upstream,
        Stack.running(tmp_path, upstream=upstream, reconcile_s=RECONCILE_S) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        client = Recorder(stack.stream.port, [f"gmail:{box}" for box in boxes], name="client")
        async with following(client):
            before = next(pushes)
            await sender.send_one(before)
            await _arrives(client, before, timeout_s=5)

            opened = sum(map(upstream.opened, FEEDS))
            assert upstream.freeze(*FEEDS) > 0
            unseen = next(pushes)
            await sender.send_one(unseen)
            late_s = await _arrives(client, unseen, timeout_s=RECONCILE_S + MARGIN_S)

            await until(lambda: sum(map(upstream.opened, FEEDS)) > opened, "the feed is opened anew")
            # One after the other, so that reconciles would take a reconcile each, or half of one at best.
            live = [next(pushes) for _ in range(8)]
            began = time.monotonic()
            for push in live:
                await sender.send_one(push)
                await _arrives(client, push, timeout_s=RECONCILE_S)
            live_s = time.monotonic() - began
        logger.info("silent: %.2f s late; then %d events in %.2f s", late_s, len(live), live_s)
        assert live_s < RECONCILE_S
        assert len(client.connections) == 1
        assert faults(client, sender.expected([before, unseen, *live], client.topics)) == []
