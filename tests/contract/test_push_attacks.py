"""Attacks on `POST /push`, each by its name: the exact answer, and nothing of it in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.keys import Keys
from tests.support.alarm_lines import rung
from tests.support.gateway import Gateway
from tests.support.key_server import KeyServer
from tests.support.lambda_events import Answer, LambdaFunction, check_problem, deployed, environment, redis_command
from tests.support.log_rig import own_stage
from tests.support.push_attack_table import (
    ATTACKS,
    BOX,
    FORGER,
    GOOGLE,
    NOW,
    UNKNOWN,
    Attack,
    bearer,
    body,
    genuine,
)
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, push_token

HANDLER = "functions.webhook.handler"


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    async with KeyServer.running(GOOGLE.jwk()) as server:
        yield server


def settings(gateway: Gateway, stage: str, keys: KeyServer) -> dict[str, str]:
    return environment(
        gateway,
        stage,
        TIDEMARK_PUSH_AUTH="on",
        TIDEMARK_PUSH_AUDIENCE=PUSH_AUDIENCE,
        TIDEMARK_PUSH_SERVICE_ACCOUNT=PUSH_ACCOUNT,
        TIDEMARK_PUSH_JWKS_URL=keys.url,
    )


def send(webhook: LambdaFunction, attack: Attack) -> Answer:
    return webhook.invoke(
        attack.method,
        attack.path,
        query=attack.query,
        headers=attack.headers,
        body=None if attack.method == "GET" else attack.body,
        encoded=True,
    )


def held(gateway: Gateway, stage: str) -> list[str]:
    """Return the name of every key but the counters of rate limits."""
    found: list[str] = redis_command(gateway, "KEYS", f"tidemark:{stage}:*")
    return [name for name in found if ":limit:" not in name]


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused_and_leaves_nothing(
    gateway: Gateway, stage: str, keys: KeyServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The exact status and code; no key in Redis; nothing of the token in the answer or the log."""
    attack = ATTACKS[name]()

    def use() -> Answer:
        with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
            return send(webhook, attack)

    answer = await asyncio.to_thread(use)
    check_problem(answer, attack.status, attack.code)
    # Only what Google has signed for somebody else is worth an alarm; what strangers send is not.
    assert rung(caplog.records) == ({"PushForbidden"} if attack.code == "push_forbidden" else set())
    assert held(gateway, stage) == []
    said = answer.body.decode() + "".join(str(record.__dict__) for record in caplog.records)
    secret = attack.headers.get("authorization", "").rpartition(" ")[2]
    assert not secret or len(secret) < 20 or secret[-20:] not in said
    assert BOX not in said


async def test_between_the_attacks_a_genuine_push_is_taken(gateway: Gateway, stage: str, keys: KeyServer) -> None:
    """One process, all attacks and genuine pushes in turn, from one address: each of those is stored, once."""

    def use() -> list[Any]:
        told = []
        with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
            for number, made in enumerate(ATTACKS.values()):
                assert send(webhook, made()).status in (400, 401, 403, 404, 405, 413, 431)
                for _ in range(2):
                    sent = webhook.invoke("POST", "/push", headers=genuine(), body=body(f"m-{number}"))
                    told.append(sent.json())
        return told

    told = await asyncio.to_thread(use)
    assert [answer["status"] for answer in told] == ["published", "duplicate"] * len(ATTACKS)
    log = Keys(stage).log(f"gmail:{BOX}")
    assert redis_command(gateway, "XLEN", log) == len(ATTACKS)
    # The first push fetched the keys, and the first forged kid looked for its own.
    assert keys.requests == 2


async def test_a_genuine_push_whose_token_is_replayed_for_other_mail_is_googles_to_prevent(
    gateway: Gateway, stage: str, keys: KeyServer
) -> None:
    """The token does not cover the body: whoever holds one may push until it expires, each message once."""

    def use() -> list[str]:
        with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
            return [
                webhook.invoke("POST", "/push", headers=genuine(), body=body(name)).json()["status"]
                for name in ("m-1", "m-1", "m-2")
            ]

    assert await asyncio.to_thread(use) == ["published", "duplicate", "published"]


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
async def test_both_spellings_of_google_are_google(
    gateway: Gateway, stage: str, keys: KeyServer, issuer: str
) -> None:
    """Its documents show either."""

    def use() -> Answer:
        with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
            return webhook.invoke("POST", "/push", headers=genuine(iss=issuer), body=body())

    assert (await asyncio.to_thread(use)).json()["status"] == "published"


async def test_while_the_key_server_is_away_known_keys_serve_and_unknown_ones_are_refused(
    gateway: Gateway, stage: str, keys: KeyServer
) -> None:
    """200 and 401, never 500."""

    def push(webhook: LambdaFunction, issuer: Issuer, message_id: str) -> Answer:
        return webhook.invoke("POST", "/push", headers=bearer(push_token(issuer, NOW)), body=body(message_id))

    with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
        assert (await asyncio.to_thread(push, webhook, GOOGLE, "m-1")).status == 200
        await keys.stop()
        for number in range(3):
            assert (await asyncio.to_thread(push, webhook, GOOGLE, f"away-{number}")).status == 200
            check_problem(await asyncio.to_thread(push, webhook, FORGER, "m"), *UNKNOWN)


async def test_a_key_that_was_published_a_second_ago_is_taken_after_one_fetch(
    gateway: Gateway, stage: str, keys: KeyServer
) -> None:
    """Google rotates its keys; the old one goes on to count while it is published."""
    fresh = Issuer.rsa("google-2")

    def push(webhook: LambdaFunction, issuer: Issuer, message_id: str) -> int:
        return webhook.invoke("POST", "/push", headers=bearer(push_token(issuer, NOW)), body=body(message_id)).status

    with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
        assert await asyncio.to_thread(push, webhook, GOOGLE, "m-1") == 200
        keys.publish(GOOGLE.jwk(), fresh.jwk())
        assert await asyncio.to_thread(push, webhook, fresh, "m-2") == 200
        assert await asyncio.to_thread(push, webhook, GOOGLE, "m-3") == 200
        assert await asyncio.to_thread(push, webhook, fresh, "m-4") == 200
    assert keys.requests == 2


async def test_without_a_single_key_every_push_is_refused_and_the_log_is_not_asked(
    gateway: Gateway, stage: str, keys: KeyServer
) -> None:
    """A cold start while the key server is away: Pub/Sub sends again."""
    await keys.stop()

    def use() -> Answer:
        with deployed(HANDLER, settings(gateway, stage, keys)) as webhook:
            return webhook.invoke("POST", "/push", headers=genuine(), body=body())

    check_problem(await asyncio.to_thread(use), *UNKNOWN)
    assert held(gateway, stage) == []
