"""Pub/Sub as the chaos harness plays it: again until acknowledged, slower while it is not, and sometimes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster, Reply
from infra.chaos.pushes import Sender, traffic

BOXES = ["ann@example.com", "ben@example.com"]
PUBLISHED = Reply(200, {"status": "published", "id": "1-0"}, injected=False)
REFUSED = Reply(503, {"code": "log_unavailable"}, injected=False)


class Webhook(Poster):
    """Answers in its own process, and counts how many ask at a time. Nobody is answered before ``together`` ask."""

    def __init__(self, answer: Callable[[int], Reply], *, together: int = 1) -> None:
        super().__init__(Origin.local(1), {})
        self._together = together
        self._all_here = asyncio.Event()
        self.asked: list[str] = []
        self.busy = 0
        self.most_busy: list[int] = []
        self._answer = answer

    async def post(self, _path: str, body: Any, *, timeout_s: float) -> Reply:
        assert timeout_s > 0
        self.asked.append(body["message"]["messageId"])
        self.busy += 1
        self.most_busy.append(self.busy)
        if len(self.asked) >= self._together:
            self._all_here.set()
        await self._all_here.wait()
        await asyncio.sleep(0.001)
        self.busy -= 1
        return self._answer(len(self.asked))


async def test_a_push_is_sent_until_it_is_acknowledged_under_one_message_id() -> None:
    webhook = Webhook(lambda asked: PUBLISHED if asked > 3 else REFUSED)
    sender = Sender(webhook, twice=0.0)
    [push] = traffic(BOXES, 1, seed=1)
    await sender.send_one(push)
    assert webhook.asked == [push.message_id] * 4
    assert sender.acknowledged == {push.message_id}
    statuses = [attempt.status for attempt in sender.attempts_of[push.message_id]]
    assert statuses == [503, 503, 503, 200]


async def test_some_that_were_acknowledged_are_sent_again() -> None:
    webhook = Webhook(lambda _: PUBLISHED)
    sender = Sender(webhook, twice=0.5, seed=1)
    pushes = traffic(BOXES, 100, seed=1)
    await sender.send(pushes, per_s=10_000)
    assert 20 < sender.repeats < 80
    assert len(webhook.asked) == 100 + sender.repeats
    assert all(len(attempts) <= 2 for attempts in sender.attempts_of.values())


async def test_it_sends_fewer_at_a_time_while_nothing_is_acknowledged_and_recovers() -> None:
    webhook = Webhook(lambda asked: PUBLISHED if asked > 150 else REFUSED, together=100)
    sender = Sender(webhook, twice=0.0, outstanding=100, least=5)
    await sender.send(traffic(BOXES, 300, seed=1), per_s=100_000)
    assert len(sender.acknowledged) == 300
    assert max(webhook.most_busy[:100]) == 100
    assert max(webhook.most_busy[130:150]) <= 5
    assert max(webhook.most_busy[200:]) > 20


def test_traffic_can_be_had_again_and_some_of_it_cannot_be_read() -> None:
    assert traffic(BOXES, 50, seed=3, unreadable=0.2) == traffic(BOXES, 50, seed=3, unreadable=0.2)
    pushes = traffic(BOXES, 1000, seed=3, unreadable=0.2, first_id="9")
    assert 100 < sum(not push.readable for push in pushes) < 300
    assert len({push.message_id for push in pushes}) == 1000
    assert all(push.message_id.startswith("9") for push in pushes)
