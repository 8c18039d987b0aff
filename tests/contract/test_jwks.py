"""Key sets, fetched from a real server that is slow, wrong or away: what is fetched when, and which keys are used."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest

from shared import jwks
from shared.counts import Counts
from shared.errors import UnknownKeyError
from shared.jwks import LAST_GOOD_S, MAX_FRESH_S, REFETCH_AFTER_S, RETRY_EMPTY_AFTER_S, KeySet
from tests.support.alarm_lines import rung
from tests.support.key_server import KeyServer
from tests.support.published_keys import published
from tests.support.signing import Issuer
from tests.support.waiting import until

FIRST, SECOND, EC = Issuer.rsa(), Issuer.rsa("rsa-2"), Issuer.ec()
DAY = 86_400.0


class World:
    """A key set, its server, its clock and its counters."""

    def __init__(self, server: KeyServer) -> None:
        self.server = server
        self.now = 1000.0
        self.counts = Counts()
        self.keys = self.key_set()

    def key_set(self, url: str | None = None, *algorithms: str) -> KeySet:
        return KeySet(
            url or self.server.url,
            name="test_keys",
            algorithms=algorithms or ("RS256", "ES256"),
            counts=self.counts,
            clock=lambda: self.now,
        )

    async def serves(self, kid: str = FIRST.kid) -> bool:
        """Tell whether a key is held or found, and wait for what was begun."""
        try:
            key = await self.keys.key(kid)
        except UnknownKeyError:
            return False
        finally:
            await self.keys.settle()
        assert key.key_id == kid
        return True


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with KeyServer.running(FIRST.jwk()) as server:
        yield World(server)


@pytest.fixture
def hasten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give up on the server sooner than in earnest, from the moment that it is known not to answer well."""
    return lambda: monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.1)


# -- when keys are fetched


async def test_nothing_is_fetched_before_a_key_is_asked_for(world: World) -> None:
    """A cold start waits for no other server. Settling then is nothing."""
    await world.keys.settle()
    assert world.server.requests == 0


async def test_a_known_key_is_fetched_once(world: World) -> None:
    """However often it is asked for while it is fresh."""
    for _ in range(5):
        assert await world.serves()
    world.now += 3599
    assert await world.serves()
    assert world.server.requests == 1
    assert world.counts.snapshot() == {"test_keys_fetched": 1}


async def test_parallel_first_requests_make_one_fetch(world: World) -> None:
    """And each has its key."""
    found = await asyncio.gather(*(world.keys.key(FIRST.kid) for _ in range(100)))
    assert {key.key_id for key in found} == {FIRST.kid}
    assert world.server.requests == 1


@pytest.mark.parametrize("since_s", [0.0, 1.0, 29.0, 1800.0])
async def test_a_key_published_a_second_ago_is_found_by_one_fetch(world: World, since_s: float) -> None:
    """However short a while ago the set was fetched."""
    assert await world.serves()
    world.now += since_s
    world.server.publish(FIRST.jwk(), SECOND.jwk())
    assert await world.serves(SECOND.kid)
    assert await world.serves(FIRST.kid)
    assert world.server.requests == 2


async def test_a_new_key_is_waited_for_by_all_who_need_it(world: World) -> None:
    """One fetch for a hundred requests; those with the old key do not wait."""
    assert await world.serves()
    world.server.publish(FIRST.jwk(), SECOND.jwk())
    world.server.open.clear()
    waiting = [asyncio.ensure_future(world.keys.key(SECOND.kid)) for _ in range(100)]
    await until(lambda: world.server.requests == 2, "the second fetch")
    assert (await world.keys.key(FIRST.kid)).key_id == FIRST.kid
    assert not any(task.done() for task in waiting)
    world.server.open.set()
    assert {key.key_id for key in await asyncio.gather(*waiting)} == {SECOND.kid}
    assert world.server.requests == 2


async def test_a_key_that_was_withdrawn_is_not_used_any_more(world: World) -> None:
    """As soon as the set without it has been seen."""
    assert await world.serves()
    world.server.publish(SECOND.jwk())
    assert await world.serves(SECOND.kid)
    assert not await world.serves(FIRST.kid)


async def test_unknown_kids_cause_one_fetch_in_a_while(world: World) -> None:
    """A thousand different ones at once, and a thousand more just before the while is over."""
    assert await world.serves()
    for moment, requests in ((1000.0, 2), (1000.0 + REFETCH_AFTER_S - 0.1, 2), (1000.0 + REFETCH_AFTER_S, 3)):
        world.now = moment
        refused = await asyncio.gather(*(world.keys.key(f"k{n}") for n in range(1000)), return_exceptions=True)
        assert {type(error) for error in refused} == {UnknownKeyError}
        assert world.server.requests == requests
    assert world.counts["test_keys_unknown_kid"] == 3000


async def test_unknown_kids_at_a_cold_start_cause_one_fetch(world: World) -> None:
    """All at once, before there is any key."""
    refused = await asyncio.gather(*(world.keys.key(f"k{n}") for n in range(1000)), return_exceptions=True)
    assert {type(error) for error in refused} == {UnknownKeyError}
    assert world.server.requests == 1


async def test_unknown_kids_do_not_keep_known_ones_waiting(world: World) -> None:
    """While the server hangs in a fetch that strangers have caused."""
    assert await world.serves()
    world.server.open.clear()
    stranger = asyncio.ensure_future(world.keys.key("stranger"))
    await until(lambda: world.server.requests == 2, "the second fetch")
    assert (await world.keys.key(FIRST.kid)).key_id == FIRST.kid
    assert not stranger.done()
    world.server.open.set()
    with pytest.raises(UnknownKeyError):
        await stranger


async def test_a_stale_set_is_fetched_anew_behind_the_request(world: World) -> None:
    """The request does not wait for it; settling does."""
    assert await world.serves()
    world.now += 3600
    world.server.open.clear()
    assert (await world.keys.key(FIRST.kid)).key_id == FIRST.kid
    assert world.counts["test_keys_stale"] == 1
    settled = asyncio.ensure_future(world.keys.settle())
    await until(lambda: world.server.requests == 2, "the second fetch")
    assert not settled.done()
    world.server.open.set()
    await settled
    assert world.counts["test_keys_fetched"] == 2
    assert await world.serves()
    assert world.counts["test_keys_stale"] == 1
    assert world.server.requests == 2


# -- callers who leave


async def test_a_caller_that_leaves_does_not_break_the_others(world: World) -> None:
    """Neither the first, whose call began the fetch, nor one that settles."""
    world.server.open.clear()
    first, second = (asyncio.ensure_future(world.keys.key(FIRST.kid)) for _ in range(2))
    settling = asyncio.ensure_future(world.keys.settle())
    await until(lambda: world.server.requests == 1, "the fetch")
    for leaving in (first, settling):
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    world.server.open.set()
    assert (await second).key_id == FIRST.kid
    assert world.server.requests == 1


async def test_a_fetch_ends_also_when_everybody_has_left(world: World) -> None:
    """Its keys are there for the next one."""
    world.server.open.clear()
    only = asyncio.ensure_future(world.keys.key(FIRST.kid))
    await until(lambda: world.server.requests == 1, "the fetch")
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    world.server.open.set()
    await world.keys.settle()
    assert await world.serves()
    assert world.server.requests == 1


# -- a server that fails


async def stopped(server: KeyServer) -> None:
    await server.stop()


def answering(
    status: int = 200, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Callable[[KeyServer], Any]:
    async def fault(server: KeyServer) -> None:
        server.status = status
        server.body = server.body if body is None else body
        server.headers = dict(headers or {})

    return fault


async def hanging(server: KeyServer) -> None:
    server.open.clear()


async def dripping(server: KeyServer) -> None:
    server.drip_s = 0.02


FAULTS: dict[str, Callable[[KeyServer], Any]] = {
    "away": stopped,
    "hanging": hanging,
    "dripping": dripping,
    "500": answering(500),
    "503": answering(503),
    "404": answering(404),
    "201": answering(201),
    "304": answering(304, b""),
    "redirect": answering(302, headers={"Location": "/certs"}),
    "empty": answering(body=b""),
    "html": answering(body=b"<html>"),
    "not utf-8": answering(body=b"\xff\xfe"),
    "list": answering(body=b"[]"),
    "null": answering(body=b"null"),
    "no keys": answering(body=b"{}"),
    "empty set": answering(body=b'{"keys":[]}'),
    "keys of text": answering(body=b'{"keys":["a",1,null,[]]}'),
    "keys is a number": answering(body=b'{"keys":7}'),
    "keys is an object": answering(body=b'{"keys":{"a":1}}'),
    "deep": answering(body=b"[" * 100_000),
    "digits": answering(body=b'{"keys":' + b"9" * 10_000 + b"}"),
    "cut off": answering(headers={"Content-Length": "100000"}),
    "bad encoding": answering(headers={"Content-Encoding": "gzip"}),
    "bad header": answering(headers={"X Y": "z"}),
    "huge": answering(body=json.dumps({"keys": [FIRST.jwk()], "pad": "x" * 300_000}).encode()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_known_keys_serve_for_a_day_without_the_server(
    world: World, hasten: Callable[[], None], fault: Callable[[KeyServer], Any]
) -> None:
    """And not a second longer; an unknown one is refused, and nothing else is ever raised."""
    assert await world.serves()
    await fault(world.server)
    hasten()
    assert not await world.serves("stranger")
    for passed_s in (31.0, 3600.0, 7200.0, LAST_GOOD_S):
        world.now = 1000.0 + passed_s
        assert await world.serves()
    assert world.counts["test_keys_stale"] == 3
    assert world.counts["test_keys_fetched"] == 1
    assert world.counts["test_keys_fetch_failed"] == 4
    world.now += 1
    assert not await world.serves()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_cold_start_beside_a_broken_server_refuses(
    world: World, hasten: Callable[[], None], fault: Callable[[KeyServer], Any]
) -> None:
    """There is nothing to verify with: 401 and not a failure of ours."""
    await fault(world.server)
    hasten()
    assert not await world.serves()
    assert world.counts.snapshot() == {"test_keys_fetch_failed": 1, "test_keys_unknown_kid": 1}


async def test_a_server_that_hangs_is_given_up_after_two_seconds(world: World) -> None:
    """In earnest: an answer to a push takes at most 3 s. Settling takes no longer."""
    await hanging(world.server)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    refused = await asyncio.gather(*(world.keys.key(f"k{n}") for n in range(10)), return_exceptions=True)
    assert {type(error) for error in refused} == {UnknownKeyError}
    assert 1.9 < loop.time() - begun < 10


async def test_a_fresh_set_is_fetched_no_more_often_while_the_server_fails(world: World) -> None:
    """A stale set is looked for once in a while, not with every request."""
    assert await world.serves()
    world.server.status = 500
    for passed_s, requests in ((3600.0, 2), (3600.0 + REFETCH_AFTER_S - 0.1, 2), (3600.0 + REFETCH_AFTER_S, 3)):
        world.now = 1000.0 + passed_s
        for _ in range(10):
            assert await world.serves()
        assert world.server.requests == requests


async def test_a_server_that_comes_back_is_used_again(world: World) -> None:
    """On its port, after a cold start without it: as soon as the short while without keys is over."""
    await world.server.stop()
    assert not await world.serves()
    await world.server.start()
    world.now += RETRY_EMPTY_AFTER_S - 0.1
    assert not await world.serves()
    assert world.server.requests == 0
    world.now += 0.1
    assert await world.serves()
    assert world.server.requests == 1


async def test_keys_that_are_too_old_come_back_with_their_server(world: World) -> None:
    """After more than a day without it."""
    assert await world.serves()
    await world.server.stop()
    world.now += LAST_GOOD_S + 1
    assert not await world.serves()
    await world.server.start()
    world.now += RETRY_EMPTY_AFTER_S
    assert await world.serves()


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.ReadError("x"),
        httpx.PoolTimeout("x"),
        httpx.RemoteProtocolError("x"),
        httpx.InvalidURL("x"),
        ConnectionResetError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_fault_of_the_connection_leaves(world: World, error: Exception) -> None:
    """Each is a key that is not known."""
    with published() as router:
        router.get(world.server.url).mock(side_effect=error)
        assert not await world.serves()
    assert world.counts["test_keys_fetch_failed"] == 1


@pytest.mark.parametrize("url", ["http://", "nonsense", "ftp://127.0.0.1/x", "http://[::1"])
async def test_no_address_raises_anything_else(world: World, url: str) -> None:
    """Though settings are checked before."""
    world.keys = world.key_set(url)
    assert not await world.serves()


# -- for how long an answer is fresh


@pytest.mark.parametrize(
    ("headers", "fresh_s"),
    [
        ({}, 3600),
        ({"Cache-Control": "public, max-age=19845, must-revalidate, no-transform"}, 19_845),
        ({"Cache-Control": 'max-age="300"'}, 300),
        ({"Cache-Control": "MAX-AGE=300"}, 300),
        ({"Cache-Control": "max-age=300", "Age": "100"}, 200),
        ({"Cache-Control": "max-age=300", "Age": "300"}, 0),
        ({"Cache-Control": "max-age=300", "Age": "5000"}, 0),
        ({"Cache-Control": "max-age=300", "Age": "-5"}, 300),
        ({"Cache-Control": "max-age=300", "Age": "x"}, 300),
        ({"Cache-Control": "max-age=0"}, 0),
        ({"Cache-Control": "no-store"}, 0),
        ({"Cache-Control": "no-cache, max-age=300"}, 0),
        ({"Cache-Control": "max-age=300,no-store"}, 0),
        ({"Cache-Control": "s-maxage=5"}, 3600),
        ({"Cache-Control": "max-age=x"}, 3600),
        ({"Cache-Control": "x-max-age=5"}, 3600),
        ({"Cache-Control": ""}, 3600),
        ({"Cache-Control": "max-age=31536000"}, MAX_FRESH_S),
        ({"Cache-Control": "max-age=" + "9" * 400}, MAX_FRESH_S),
        ({"Cache-Control": "max-age=31536000", "Age": "9" * 400}, MAX_FRESH_S),
    ],
)
async def test_headers_say_for_how_long_keys_are_fresh(world: World, headers: dict[str, str], fresh_s: float) -> None:
    """RFC 9111: within a day, and without asking more often than once in a while."""
    world.server.headers = dict(headers or {})
    assert await world.serves()
    world.now += max(fresh_s, REFETCH_AFTER_S) - 0.5
    assert await world.serves()
    assert world.server.requests == 1
    world.now += 0.5
    assert await world.serves()
    assert world.server.requests == 2


# -- which keys are used

WEAK = Issuer.rsa("weak", 1024)
OCT = {"kty": "oct", "kid": "oct", "k": "c2VjcmV0" * 8, "use": "sig"}
UNUSED: dict[str, dict[str, Any]] = {
    "weak": WEAK.jwk(),
    "weak, no alg": WEAK.jwk(alg=...),
    "symmetric": OCT | {"alg": "HS256"},
    "symmetric, no alg": OCT,
    "symmetric that says RS256": OCT | {"alg": "RS256"},
    "private": SECOND.private_jwk(),
    "private ec": EC.private_jwk(),
    "for encryption": SECOND.jwk(use="enc"),
    "use of another kind": SECOND.jwk(use=["sig"]),
    "RS512": SECOND.jwk(alg="RS512"),
    "PS256": SECOND.jwk(alg="PS256"),
    "RSA-OAEP": SECOND.jwk(alg="RSA-OAEP"),
    "RSA that says ES256": SECOND.jwk(alg="ES256"),
    "EC that says RS256": EC.jwk(alg="RS256"),
    "alg none": SECOND.jwk(alg="none"),
    "alg is a list": SECOND.jwk(alg=["RS256"]),
    "alg is an object": SECOND.jwk(alg={"RS256": 1}),
    "alg is a number": SECOND.jwk(alg=5),
    "no kid": SECOND.jwk(kid=...),
    "kid is a number": SECOND.jwk(kid=2),
    "kid is a list": SECOND.jwk(kid=["rsa-2"]),
    "no kty": SECOND.jwk(kty=...),
    "kty is a list": SECOND.jwk(kty=["RSA"]),
    "no modulus": SECOND.jwk(n=...),
    "modulus of a number": SECOND.jwk(n=5),
    "modulus of one": SECOND.jwk(n="AQ"),
    "exponent of one": SECOND.jwk(e="AQ"),
    "no point": EC.jwk(x=...),
    "point off the curve": EC.jwk(x="AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
    "another curve": EC.jwk(crv="P-384"),
    "Koblitz's curve that says ES256": EC.jwk(crv="secp256k1"),
    "Edwards' curve": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "ed", "alg": "EdDSA"},
}


@pytest.mark.parametrize("odd", UNUSED.values(), ids=UNUSED)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
async def test_a_key_that_is_not_sound_is_not_used(world: World, odd: dict[str, Any], *, first: bool) -> None:
    """And does not take the others in its set away."""
    world.server.publish(*((odd, FIRST.jwk()) if first else (FIRST.jwk(), odd)))
    assert await world.serves(FIRST.kid)
    for kid in ("weak", "oct", "rsa-2", "ec-1", "ed", "2", "None", ""):
        assert not await world.serves(kid)


@pytest.mark.parametrize("odd", UNUSED.values(), ids=UNUSED)
async def test_a_set_of_nothing_sound_is_no_set(world: World, odd: dict[str, Any]) -> None:
    """The last good one is used on."""
    assert await world.serves()
    world.server.publish(odd)
    assert not await world.serves("stranger")
    assert await world.serves()
    assert world.counts["test_keys_fetch_failed"] == 1


async def test_two_keys_of_one_name_are_neither_used(world: World) -> None:
    """Which of them is meant nobody can say (RFC 7517, section 4.5). The rest of the set is sound."""
    for twins in ((FIRST.jwk(), SECOND.jwk(kid=FIRST.kid)), (SECOND.jwk(kid=FIRST.kid), FIRST.jwk())):
        world.keys = world.key_set()
        world.server.publish(*twins, EC.jwk())
        assert await world.serves(EC.kid)
        assert not await world.serves(FIRST.kid)


@pytest.mark.parametrize("issuer", [FIRST, EC], ids=lambda issuer: issuer.algorithm)
async def test_a_key_need_not_say_what_it_is_for(world: World, issuer: Issuer) -> None:
    """Both fields are optional (RFC 7517, section 4)."""
    world.server.publish(issuer.jwk(use=..., alg=...))
    assert await world.serves(issuer.kid)


async def test_only_keys_of_the_algorithms_given_are_used(world: World) -> None:
    """Google's set is asked for RS256."""
    world.server.publish(FIRST.jwk(), EC.jwk())
    world.keys = world.key_set(world.server.url, "RS256")
    assert await world.serves(FIRST.kid)
    assert not await world.serves(EC.kid)


# -- what the operator sees


async def test_what_happens_is_told_and_no_kid_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A kid comes from a stranger's token: it may hold anything."""
    caplog.set_level(logging.DEBUG, logger="tidemark")
    assert await world.serves()
    world.server.status = 500
    assert not await world.serves("secret-kid")
    world.now += DAY
    assert await world.serves()
    told = [record for record in caplog.records if record.name == "tidemark.jwks"]
    assert [record.levelname for record in told] == ["INFO", "WARNING", "WARNING"]
    assert [vars(record)["held"] for record in told] == [1, 1, 1]
    assert {vars(record)["keys"] for record in told} == {"test_keys"}
    assert "status 500" in vars(told[1])["reason"]
    assert [rung([record]) for record in told] == [set(), {"KeysAway"}, {"KeysAway"}]
    assert not any("secret-kid" in str(vars(record)) for record in caplog.records)
    assert world.counts.snapshot() == {
        "test_keys_fetched": 1,
        "test_keys_fetch_failed": 2,
        "test_keys_stale": 1,
        "test_keys_unknown_kid": 1,
    }


async def test_a_set_that_is_refused_is_not_quoted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A private key that was published by mistake stays out of our log."""
    caplog.set_level(logging.DEBUG, logger="tidemark")
    private = SECOND.private_jwk()
    world.server.publish(private, OCT)
    assert not await world.serves(SECOND.kid)
    assert not any(private["d"] in str(vars(record)) or OCT["k"] in str(vars(record)) for record in caplog.records)
