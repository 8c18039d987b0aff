"""`tidemark doctor` on the account at Upstash: what only its management API tells of the database."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
import respx

from infra.checks import upstash_account
from infra.checks.finding import Finding
from infra.checks.upstash_account import API_URL, examine_upstash_account
from tests.support.command import Command
from tests.support.doctor import findings
from tests.support.gateway import GatewayProcess
from tests.support.lambda_events import environment
from tests.support.log_rig import own_stage
from tests.support.scripted_server import Connection, ScriptedServer

KEY = {"UPSTASH_EMAIL": "ops@example.com", "UPSTASH_API_KEY": "very-secret"}
URL = "https://beloved-stallion-58500.upstash.io"
#: As in "List Databases", without what nobody looks at.
DATABASE = {
    "database_id": "96ad0856-03b1-4ee7-9666-e81abd0349e1",
    "database_name": "MyRedis",
    "region": "global",
    "state": "active",
    "endpoint": "beloved-stallion-58500",
    "db_max_clients": 10_000,
    "db_max_request_size": 10_485_760,
    "db_max_commands_per_second": 10_000,
    "db_request_limit": 8_024_278_031_528_737_000,
    "type": "paid",
    "budget": 360,
    "primary_region": "us-east-1",
    "read_regions": [],
    "eviction": False,
    "db_eviction": False,
}
OTHER = {**DATABASE, "endpoint": "another-1", "eviction": True}


async def found(
    answer: httpx.Response | Exception, *, streams: int | None = None, region: str = "us-east-1"
) -> list[Finding]:
    """Examine what the API answers."""
    with respx.mock(assert_all_called=False) as router:
        route = router.get(f"{API_URL}/redis/databases")
        route.mock(**({"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}))
        environ = {**KEY, "AWS_REGION": region}
        return [finding async for finding in examine_upstash_account(environ, URL, streams)]


async def of(changed: dict[str, Any], *, streams: int | None = None, region: str = "us-east-1") -> list[Finding]:
    """Examine a database that differs in something."""
    return await found(httpx.Response(200, json=[OTHER, {**DATABASE, **changed}]), streams=streams, region=region)


async def test_a_good_database_is_found_well_among_the_accounts(
    monkeypatch: pytest.MonkeyPatch, gateway: GatewayProcess, command: Command
) -> None:
    """Asked for over a real connection with the key, and never with the database's token; no secret is shown."""
    asked = []

    async def answer(connection: Connection) -> None:
        first, _ = await connection.request()
        asked.append((first, connection.headers["authorization"]))
        await connection.respond(json.dumps([OTHER, {**DATABASE, "endpoint": "127.0.0.1"}]).encode())

    async with ScriptedServer.running(answer) as server:
        monkeypatch.setattr(upstash_account, "API_URL", f"{server.url}/v2")
        settings = {**environment(gateway, own_stage()), **KEY}
        ran = await asyncio.to_thread(command, "doctor", settings=settings)
    basic = base64.b64encode(b"ops@example.com:very-secret").decode()
    assert asked == [("GET /v2/redis/databases HTTP/1.1", f"Basic {basic}")]
    told = findings(ran)
    for what in (
        "database: eviction is off",
        "regions: us-east-1, and no read regions",
        "connections: 10,000 at most: a live feed each for as many streams on Lambda, or 200 other processes",
        "limits: plan paid, 10,000 commands a second, requests of 10 MB, a budget of 360 USD a month",
    ):
        assert told[what] == ("ok", "")
    assert "secret" not in ran.out


NOT_WELL = {
    "eviction": ({"eviction": True}, "us-east-1", "FAIL", "database: eviction is on", "turn Eviction off"),
    "its other name": ({"db_eviction": True}, "us-east-1", "FAIL", "database: eviction is on", "turn Eviction off"),
    "suspended": ({"state": "suspended"}, "us-east-1", "FAIL", "database: it is suspended", "see its console"),
    "read regions": (
        {"read_regions": ["us-east-2", "eu-west-1"]},
        "us-east-1",
        "warn",
        "regions: read regions in us-east-2, eu-west-1. What is read there may be behind",
        "take them away",
    ),
    "far away": (
        {},
        "eu-west-1",
        "warn",
        "regions: the database is in us-east-1, the functions are in eu-west-1",
        "put both into the same region",
    ),
    "no limit told": (
        {"db_max_clients": 0},
        "us-east-1",
        "warn",
        "connections: the plan's limit is not told",
        "see the plan",
    ),
    "free": (
        {"type": "free", "db_request_limit": 500_000, "budget": 0},
        "us-east-1",
        "warn",
        "limits: plan free, 10,000 commands a second, requests of 10 MB; 500,000 commands a month",
        "take a paid plan",
    ),
    "small requests": (
        {"db_max_request_size": 524_288},
        "us-east-1",
        "warn",
        "limits: plan paid, 10,000 co",
        "pages of the log",
    ),
}


@pytest.mark.parametrize(("changed", "region", "level", "what", "fix"), NOT_WELL.values(), ids=NOT_WELL)
async def test_what_is_not_well_is_told_with_what_to_do(
    changed: dict[str, Any], region: str, level: str, what: str, fix: str
) -> None:
    """And nothing else is: another database's faults are another's."""
    (told,) = [finding for finding in await of(changed, region=region) if finding.level != "ok"]
    assert told.level == level
    assert told.what.startswith(what)
    assert told.fix.startswith(fix)


@pytest.mark.parametrize(("streams", "level"), [(10_000, "ok"), (10_001, "warn")])
async def test_feeds_are_held_against_the_connections_of_the_plan(streams: int, level: str) -> None:
    """One for each stream that may be open on Lambda."""
    (told,) = [finding for finding in await of({}, streams=streams) if finding.what.startswith("connections")]
    assert told.level == level
    assert f"{streams:,}" in told.what


async def test_an_endpoint_may_be_told_as_a_host() -> None:
    """Both forms are documented."""
    assert not [one for one in await of({"endpoint": "beloved-stallion-58500.upstash.io"}) if one.level != "ok"]


@pytest.mark.parametrize(
    ("answer", "level", "what"),
    [
        (httpx.Response(401, text="Unauthorized"), "FAIL", "Upstash does not take UPSTASH_EMAIL and UPSTASH_API_KEY"),
        (httpx.Response(403), "FAIL", "Upstash does not take"),
        (httpx.Response(500, text="oops"), "warn", "Upstash's management API tells nothing (Server error '500"),
        (httpx.Response(200, text="<html>"), "warn", "Upstash's management API tells nothing"),
        (httpx.Response(200, json={"databases": 1}), "warn", "Upstash's management API tells nothing"),
        (httpx.ReadTimeout(""), "warn", "Upstash's management API tells nothing (ReadTimeout)"),
        (httpx.Response(200, json=[OTHER]), "warn", "this account at Upstash has none at beloved-stallion-58500"),
        (httpx.Response(200, json=[]), "warn", "this account at Upstash has none at"),
    ],
    ids=["refused", "forbidden", "broken", "a page", "another form", "silent", "not ours", "empty"],
)
async def test_what_cannot_be_looked_at_is_told(answer: httpx.Response | Exception, level: str, what: str) -> None:
    """Each with what to do instead; the key is not shown."""
    (told,) = await found(answer)
    assert (told.level, told.what.startswith(f"database: {what}")) == (level, True)
    assert told.fix
    assert "secret" not in str(told)


async def test_without_a_key_it_is_told_what_was_not_looked_at() -> None:
    """Of a database of Upstash's; of another there is nothing to say."""
    (told,) = [one async for one in examine_upstash_account({}, URL, None)]
    assert (told.level, "UPSTASH_EMAIL and UPSTASH_API_KEY" in told.fix, "eviction off" in told.fix) == (
        "warn",
        True,
        True,
    )
    assert [one async for one in examine_upstash_account({}, "http://127.0.0.1:1", None)] == []
