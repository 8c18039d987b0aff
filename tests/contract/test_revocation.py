"""Revocation: no token counts that a user had until then, and its open streams end with the next reconcile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from shared import log as log_module
from shared.errors import LogUnavailableError, TokenRevokedError
from shared.keys import Keys, digest
from shared.log import NOW, From
from shared.position import ZERO
from shared.tokens import mint
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.gateway import Gateway
from tests.support.lambda_events import KID, TOKEN_KEY, LambdaFunction, check_problem, deployed, environment
from tests.support.lambda_events import Answer as FunctionAnswer
from tests.support.log_rig import Rig, own_stage
from tests.support.stream_rig import Process, eventually

TOPIC = "gmail:a@b.c"
BASE_MS = 1_795_000_000_000
DAY_MS = 24 * 3600 * 1000


# -- the log


async def test_a_user_that_was_never_revoked_has_no_moment(mine: Rig) -> None:
    """And who does not ask is not told."""
    log = mine.log()
    await log.revoke("ben")
    assert (await log.read({TOPIC: From(NOW)}, limit=1, user="ann")).revoked_at is None
    assert (await log.read({TOPIC: From(NOW)}, limit=1)).revoked_at is None


async def test_a_reading_says_when_its_user_was_revoked(mine: Rig) -> None:
    """Also when several reads are made together, each for another user."""
    revocation = await mine.log(now_ms=BASE_MS).revoke("ann")
    assert revocation.at_ms == BASE_MS
    log = mine.log()
    users = ["ann", "ben", None, "ann"] * 10
    queries = [log_module._Query(((TOPIC, From(NOW)),), 1, user) for user in users]
    readings = await log._read_together(queries)
    assert [reading.revoked_at for reading in readings] == [
        BASE_MS / 1000 if user == "ann" else None for user in users
    ]


async def test_moments_rise_also_when_the_clock_jumps_back(mine: Rig) -> None:
    """Whoever has heard of all up to one of them asks for those after it."""
    first = await mine.log(now_ms=BASE_MS).revoke("ann")
    second = await mine.log(now_ms=BASE_MS - 60_000).revoke("ben")
    third = await mine.log(now_ms=BASE_MS).revoke("ann")
    assert [r.at_ms for r in (first, second, third)] == [BASE_MS, BASE_MS + 1, BASE_MS + 2]
    glance = await mine.log().glance(revoked_after_ms=BASE_MS)
    assert glance.revocations == (second, third)
    assert (await mine.log().glance(revoked_after_ms=third.at_ms)).revocations == ()


async def test_a_revocation_is_kept_for_as_long_as_a_token_can_live(mine: Rig) -> None:
    """No longer: no token that it could stop is left then."""
    await mine.log(now_ms=BASE_MS).revoke("ann")
    await mine.log(now_ms=BASE_MS + DAY_MS).revoke("ben")
    glance = await mine.log().glance(revoked_after_ms=0)
    assert [revocation.user for revocation in glance.revocations] == [digest("ann"), digest("ben")]
    await mine.log(now_ms=BASE_MS + 2 * DAY_MS).revoke("cleo")
    glance = await mine.log().glance(revoked_after_ms=0)
    assert [revocation.user for revocation in glance.revocations] == [digest("ben"), digest("cleo")]
    assert 24 * 3600 < await mine.redis("TTL", mine.keys.revoked) <= 25 * 3600


async def test_a_revoked_user_acknowledges_nothing(mine: Rig) -> None:
    """The cursor that is kept stays; a token that was issued later counts."""
    log = mine.log()
    (position,) = await mine.positions(log, TOPIC, 1)
    await log.ack("ann", "tab", ZERO, issued_at=time.time())
    revocation = await log.revoke("ann")
    for issued_at in (0.0, revocation.at_ms / 1000 - 5, revocation.at_ms / 1000):
        with pytest.raises(TokenRevokedError):
            await log.ack("ann", "tab", position, issued_at=issued_at)
    assert await log.acked("ann", "tab") == ZERO
    await log.ack("ben", "tab", position, issued_at=0.0)
    assert await log.ack("ann", "tab", position, issued_at=revocation.at_ms / 1000 + 1) == position


async def test_without_redis_nothing_is_said_to_be_revoked(faulty: FaultyGateway) -> None:
    """Whoever revokes must know."""
    faulty.refuse = lambda _name: Answer.error("LOADING")
    async with Process.running(faulty, Keys(own_stage())) as process:
        with pytest.raises(LogUnavailableError):
            await process.log.revoke("ann")


# -- streams


async def test_an_open_stream_ends_with_the_next_reconcile(mine: Rig, faulty: FaultyGateway) -> None:
    """The user's streams that an older token has opened, no other, and at no further request."""
    log = mine.log()
    async with Process.running(faulty, mine.keys, reconcile_s=0.2) as process:
        moment_s = time.time()
        old = [await process.open_tab(TOPIC, user="ann", issued_at=moment_s - 60, client=f"c{n}") for n in range(2)]
        other = await process.open_tab(TOPIC, user="ben", issued_at=moment_s - 60)
        new = await process.open_tab(TOPIC, user="ann", issued_at=moment_s + 3600)
        await log.revoke("ann")
        await eventually(lambda: all(tab.ended for tab in old), "the old streams end")
        assert [tab.named("bye") for tab in old] == [[{"reason": "revoked", "reconnect": False}]] * 2
        assert all(tab.frames[-1].retry_ms == 3_600_000 for tab in old)
        positions = await mine.positions(log, TOPIC, 2)
        await other.until_positions(positions)
        await new.until_positions(positions)
        assert not other.named("bye") + new.named("bye")
        # Each revocation is heard of once.
        reads, glances = process.hub.counters.reads, faulty.asked["glance"]
        await eventually(lambda: process.hub.counters.reads >= reads + 3, "it reconciles on")
        assert faulty.asked["glance"] - glances <= process.hub.counters.reads - reads + 1


async def test_more_revocations_than_one_answer_lists_are_all_heard_of(
    mine: Rig, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come in pages; the user whose turn is last loses its stream as well."""
    monkeypatch.setattr("shared.log.MAX_REVOCATIONS", 3)
    monkeypatch.setattr("shared.hub.MAX_REVOCATIONS", 3)
    log = mine.log()
    async with Process.running(faulty, mine.keys, reconcile_s=0.2) as process:
        tab = await process.open_tab(TOPIC, user="zoe", issued_at=time.time() - 60)
        for number in range(7):
            await log.revoke(f"user{number}")
        await log.revoke("zoe")
        await eventually(lambda: tab.ended, "the stream ends")
        assert tab.named("bye") == [{"reason": "revoked", "reconnect": False}]


async def test_a_stream_does_not_open_with_a_revoked_token(mine: Rig, faulty: FaultyGateway) -> None:
    """It is known from the read that every stream begins with; nothing stays behind in the hub."""
    async with Process.running(faulty, mine.keys) as process:
        revocation = await mine.log().revoke("ann")
        asked = faulty.asked["read"]
        with pytest.raises(TokenRevokedError):
            await process.open_tab(TOPIC, user="ann", issued_at=revocation.at_ms / 1000 - 1)
        assert faulty.asked["read"] == asked + 1
        tab = await process.open_tab(TOPIC, user="ann", issued_at=revocation.at_ms / 1000 + 1)
        await tab.until_positions(await mine.positions(mine.quick(), TOPIC, 1))


async def test_a_revocation_while_a_stream_opens_ends_it(mine: Rig, faulty: FaultyGateway) -> None:
    """Between its read and its first frame the hub has heard of the revocation already."""
    async with Process.running(faulty, mine.keys, reconcile_s=0.1) as process:
        witness = await process.open_tab(TOPIC, user="ann", issued_at=time.time() - 60, client="witness")
        tab = process.tab(TOPIC, user="ann", issued_at=time.time() - 60)
        await tab.stream.open()
        await mine.log().revoke("ann")
        await eventually(lambda: witness.ended, "the hub has heard of it")
        await tab.stream.run(tab)
        tab.stream.close()
        assert [bye["reason"] for bye in tab.named("bye")] == ["revoked"]


# -- replay and ack


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def replay(gateway: Gateway, stage: str) -> Iterator[LambdaFunction]:
    with deployed("functions.replay.handler", environment(gateway, stage)) as started:
        yield started


async def test_a_revoked_token_is_refused_by_replay_and_ack(mine: Rig, replay: LambdaFunction, stage: str) -> None:
    """401 token_revoked; the token that is fetched next counts again."""
    mine.keys = Keys(stage)

    def ask(now: float) -> list[FunctionAnswer]:
        token = mint("ann", [TOPIC], kid=KID, key=TOKEN_KEY, ttl_s=600, now=now)
        headers = {"authorization": f"Bearer {token}"}
        body = json.dumps({"cursor": "0-0", "client": "tab"}).encode()
        return [
            replay.invoke("GET", "/replay", query="after=earliest", headers=headers),
            replay.invoke("POST", "/ack", headers=headers, body=body),
        ]

    now = time.time()
    assert [answer.status for answer in ask(now)] == [200, 204]
    await mine.log().revoke("ann")
    for answer in ask(now):
        check_problem(answer, 401, "token_revoked")
    assert [answer.status for answer in ask(now + 5)] == [200, 204]
