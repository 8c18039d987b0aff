"""Where a push is once it is answered: in two places with confirmation, stored though nobody was told, or parked."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from infra.local.queues import CONFIRMATION, DEAD_LETTERS, DELIVERY
from shared.delivery import Death, Delivery, Event, RawPush
from tests.support.broken_servers import broken
from tests.support.deliver_rig import DeliverRig
from tests.support.faulty_gateway import Answer as GatewayAnswer
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import NO_TLS
from tests.support.intake import ANSWER_S, push_of, queued, refused, webhook
from tests.support.scripted_server import Connection, ScriptedServer

KIB = 1024


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


# -- confirmation


async def test_with_confirmation_a_push_is_in_two_places_before_it_is_answered(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """In the log and in the confirmation queue; while the log is away in both queues."""
    async with webhook(rig.settings(TIDEMARK_CONFIRM_S="60")) as process:
        assert (await process.push(push_of(1))).json()["status"] == "published"
        assert (rig.held(), rig.held(CONFIRMATION)) == (0, 1)
        faulty.refuse = lambda name: GatewayAnswer.error("READONLY") if name == "append" else None
        assert queued(await process.push(push_of(2)))
        assert (rig.held(), rig.held(CONFIRMATION)) == (1, 2)
    rig.clock.now_s += 59
    assert rig.receive(queue=CONFIRMATION) == []
    rig.clock.now_s += 1
    copies = [Delivery.parse(message["Body"]) for message in rig.receive(queue=CONFIRMATION)]
    assert sorted(copy.content.message_id for copy in copies if isinstance(copy.content, Event)) == ["1", "2"]


async def test_while_the_log_fails_a_push_has_no_copy_that_could_come_into_the_log_before_it(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """After an outage longer than the delay copies come in any order; what is delivered gets its copy then.

    Only the first that failed has one: nobody knew yet.
    """
    faulty.refuse = lambda name: GatewayAnswer.error("READONLY") if name == "append" else None
    async with webhook(rig.settings(TIDEMARK_CONFIRM_S="60", TIDEMARK_BREAKER_S="1")) as process:
        for number in range(5):
            assert queued(await process.push(push_of(number)))
        began = time.monotonic()
        for number in range(5, 10):
            assert queued(await process.push(push_of(number)))
        if time.monotonic() - began < 0.9:  # then none of them was a try whether the log is back
            assert rig.held(CONFIRMATION) == 1
        faulty.refuse = lambda _name: None
        number = 10
        while queued(await process.push(push_of(number, mailbox="ben@example.com"))):
            number += 1
        # It found the log well again, and was not to be queued: its copy is there when it is answered.
        assert len(await rig.numbers("gmail:ben@example.com")) == 1
        copies = rig.held(CONFIRMATION)
        assert copies >= 2
    rig.start(TIDEMARK_CONFIRM_S="60")
    waiting = rig.held()
    for _ in range(-(-waiting // 10)):
        assert (await rig.run()).failed == []
    assert await rig.numbers() == [str(number) for number in range(10)]
    assert rig.held(CONFIRMATION) == copies + waiting


@pytest.mark.parametrize("how", ["hangs", "refuses", "garbage"])
async def test_a_push_whose_copy_cannot_be_kept_is_not_acknowledged(rig: DeliverRig, how: str) -> None:
    """Who asked for confirmation was promised that a failover loses nothing. Sent again it is one event."""
    async with broken(how) as url:
        settings = rig.settings(
            TIDEMARK_CONFIRM_S="60", TIDEMARK_CONFIRM_QUEUE_URL=f"{url}/000000000000/{CONFIRMATION}"
        )
        async with webhook(settings) as process:
            refused(await process.push(push_of(1)))
            assert process.took_s < ANSWER_S
    async with webhook(rig.settings(TIDEMARK_CONFIRM_S="60")) as process:
        assert (await process.push(push_of(1))).json()["status"] == "duplicate"
    assert await rig.numbers() == ["1"]
    assert rig.held(CONFIRMATION) == 1


# -- an append that was executed, and not answered


@pytest.mark.parametrize("fault", ["held", "lost"])
async def test_an_append_that_was_executed_but_not_answered_and_its_queued_copy_are_one_event(
    rig: DeliverRig, faulty: FaultyGateway, fault: str
) -> None:
    """The request reached Redis, the answer never came back: the push is in the log and in the queue."""
    async with webhook(rig.settings()) as process:
        with faulty.holding("append") if fault == "held" else contextlib.nullcontext():
            if fault == "lost":
                faulty.lose_answers("append", 2)
            assert queued(await process.push(push_of(1)))
            assert (await rig.numbers(), rig.held()) == (["1"], 1)
        assert (await rig.run()).failed == []
        assert (await process.push(push_of(1))).json()["status"] == "duplicate"
    assert await rig.numbers() == ["1"]
    assert rig.basis.counts["delivered_before"] == 1
    assert rig.held() == 0


@contextlib.asynccontextmanager
async def losing_answers(url: str, count: int) -> AsyncIterator[str]:
    """Pass requests on to a queue server, and close the connection in place of the first answers."""
    left = itertools.count(count, -1)

    async def pass_on(connection: Connection) -> None:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:
            while True:
                _, body = await connection.request()
                # The signature covers the host that was asked, which the server reads from the header.
                answer = await client.post(url, content=body, headers=connection.headers)
                if next(left) > 0:
                    return
                await connection.respond(answer.content)

    async with ScriptedServer.running(pass_on) as server:
        yield server.url


@pytest.mark.parametrize("lost", [1, 2])
async def test_what_the_queue_took_without_answering_and_was_sent_again_is_one_event(
    rig: DeliverRig, faulty: FaultyGateway, lost: int
) -> None:
    """By ourselves at once, which the queue knows again, or after a 503 by Pub/Sub, which the log does."""
    faulty.refuse = lambda name: GatewayAnswer.error("READONLY") if name == "append" else None
    async with (
        losing_answers(rig.server.url, lost) as url,
        webhook(rig.settings(TIDEMARK_QUEUE_URL=f"{url}/000000000000/{DELIVERY}")) as process,
    ):
        answer = await process.push(push_of(1))
        if lost == 1:
            assert queued(answer)
        else:
            refused(answer)
        assert rig.held() == 1
        faulty.refuse = lambda _name: None
        assert (await process.push(push_of(1))).json()["status"] == "published"
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1"]
    assert rig.held() == 0


# -- pushes that can never be read


async def test_what_can_never_be_read_goes_to_the_dead_letters(rig: DeliverRig) -> None:
    """Whole up to 256 KiB, so that a later version may read it; of a larger one size, hash and head."""
    bodies = {"small": b"broken", "large": b"\0" * (256 * KIB), "too large": b"x" * (256 * KIB + 1)}
    async with webhook(rig.settings()) as process:
        for body in bodies.values():
            assert (await process.push(body)).json()["status"] == "rejected"
    assert rig.held(DEAD_LETTERS) == 3
    letters = rig.letters()
    pushes = [Delivery.parse(letter.message).content for letter in letters]
    assert all(isinstance(push, RawPush) for push in pushes)
    kept = {push.size: push for push in pushes if isinstance(push, RawPush)}
    assert kept[6].head == b"broken"
    assert (kept[256 * KIB].is_whole, kept[256 * KIB + 1].is_whole) == (True, False)
    assert {letter.death for letter in letters} == {Death.POISON}


async def test_a_push_that_can_neither_be_read_nor_parked_is_not_acknowledged(rig: DeliverRig) -> None:
    """And the answer is in time."""
    async with broken("hangs") as url:
        settings = rig.settings(TIDEMARK_DEAD_LETTER_URL=f"{url}/000000000000/{DEAD_LETTERS}")
        async with webhook(settings) as process:
            refused(await process.push(b"broken"))
            assert process.took_s < ANSWER_S


async def test_a_push_of_256_kib_goes_through_the_queue_into_the_log(rig: DeliverRig, faulty: FaultyGateway) -> None:
    """The largest that is read, with the largest names that there are."""
    mailbox = "a" * 300 + "@example.com"
    small = push_of("m" * 256, mailbox=mailbox, attributes={"filler": ""})
    body = push_of("m" * 256, mailbox=mailbox, attributes={"filler": "x" * (256 * KIB - len(small))})
    assert len(body) == 256 * KIB
    faulty.refuse = lambda name: GatewayAnswer.error("READONLY") if name == "append" else None
    async with webhook(rig.settings()) as process:
        assert queued(await process.push(body))
    faulty.refuse = lambda _name: None
    assert (await rig.run()).failed == []
    assert await rig.numbers(f"gmail:{mailbox}") == ["m" * 256]
