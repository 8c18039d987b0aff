"""What only Upstash's management API tells of the database: eviction, regions, limits of the plan.

Names and meanings of the fields: "Developer API", "List Databases". It takes a key of the account's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from infra.checks.finding import TIMEOUT_S, Finding

API_URL: Final = "https://api.upstash.com/v2"
EMAIL, API_KEY = "UPSTASH_EMAIL", "UPSTASH_API_KEY"
_DOMAIN: Final = ".upstash.io"
#: Pages of the log are bounded by a megabyte, pushes by less.
_LEAST_REQUEST: Final = 1_048_576
#: Feeds of one process that is no Lambda environment, at most.
_FEEDS_A_PROCESS: Final = 50
_UNREACHED: Final = (
    "see in the database's console: eviction off, no read regions, connections and commands of the plan"
)


async def examine_upstash_account(
    environ: Mapping[str, str], redis_url: str, streams_at_most: int | None
) -> AsyncIterator[Finding]:
    """Look the database up. ``streams_at_most`` says how many environments may hold a live feed, if it is known.

    Where neither a key is given nor the database is Upstash's there is nothing to say.
    """
    host = urlsplit(redis_url).hostname or ""
    email, key = environ.get(EMAIL), environ.get(API_KEY)
    if not (email and key):
        if host.endswith(_DOMAIN):
            what = "database: read regions, connections and limits of the plan were not looked at"
            fix = f"set {EMAIL} and {API_KEY} (console: Account, Management API); or {_UNREACHED}"
            yield Finding("warn", what, fix)
        return
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, auth=(email, key)) as client:
            answer = await client.get(f"{API_URL}/redis/databases")
            found = _database(answer, host)
    except _RefusedError:
        what = f"database: Upstash does not take {EMAIL} and {API_KEY}"
        fix = (
            "make a key in the console (Account, Management API) with the address that you sign in by; accounts of "
            f"Vercel's, Fly's and such have none: {_UNREACHED}"
        )
        yield Finding("FAIL", what, fix)
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        why = str(error) or type(error).__name__
        yield Finding("warn", f"database: Upstash's management API tells nothing ({why})", f"later; or {_UNREACHED}")
    else:
        if found is None:
            fix = "is it another account's, or a team's? Each team has keys of its own"
            yield Finding("warn", f"database: this account at Upstash has none at {host}", fix)
        else:
            for finding in _examine(found, environ.get("AWS_REGION"), streams_at_most):
                yield finding


class _RefusedError(Exception):
    """The key is not taken."""


def _database(answer: httpx.Response, host: str) -> Mapping[str, Any] | None:
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise _RefusedError
    answer.raise_for_status()
    # An endpoint is told as a host, or as the first part of one.
    names = (host, host.removesuffix(_DOMAIN))
    return next((one for one in answer.json() if one["endpoint"] in names), None)


def _examine(found: Mapping[str, Any], region: str | None, streams_at_most: int | None) -> Iterator[Finding]:
    state = found.get("state", "active")
    if state != "active":
        yield Finding(
            "FAIL", f"database: it is {state}", "see its console: a plan used up, or a payment that failed?"
        )
    if found.get("eviction") or found.get("db_eviction"):
        what = "database: eviction is on, so events and streams' slots go when it is full"
        yield Finding("FAIL", what, "turn Eviction off in its console")
    else:
        yield Finding("ok", "database: eviction is off")
    yield from _regions(found, region)
    yield from _connections(int(found.get("db_max_clients", 0)), streams_at_most)
    yield from _limits(found)


def _regions(found: Mapping[str, Any], region: str | None) -> Iterator[Finding]:
    readers = ", ".join(found.get("read_regions") or ())
    primary = found.get("primary_region")
    if readers:
        what = f"regions: read regions in {readers}. What is read there may be behind, which looks as if a failover "
        what += "had forgotten events: clients are told of gaps that are none; and every write is billed there again"
        fix = "take them away in its console. Scripts write, and so run in the primary region; nothing gains by them"
        yield Finding("warn", what, fix)
    if primary and region and primary != region:
        what = f"regions: the database is in {primary}, the functions are in {region}"
        yield Finding("warn", what, "put both into the same region: a push waits for two of its answers")
    elif not readers:
        yield Finding("ok", f"regions: {primary or 'one'}, and no read regions")


def _connections(most: int, streams_at_most: int | None) -> Iterator[Finding]:
    if most <= 0:
        yield Finding("warn", "connections: the plan's limit is not told", "see the plan in its console")
    elif streams_at_most is None:
        processes = most // _FEEDS_A_PROCESS
        what = f"{most:,} at most: a live feed each for as many streams on Lambda, or {processes:,} other processes"
        yield Finding("ok", f"connections: {what}")
    elif streams_at_most > most:
        what = f"connections: {most:,} at most, and {streams_at_most:,} streams on Lambda may open a live feed each"
        fix = f"reserve {most:,} for the stream function at most, take a larger plan, or many streams a process: "
        yield Finding("warn", what, f"{fix}docs/scaling.md")
    else:
        yield Finding("ok", f"connections: {most:,} at most, enough for {streams_at_most:,} live feeds on Lambda")


def _limits(found: Mapping[str, Any]) -> Iterator[Finding]:
    plan, request = str(found.get("type", "unknown")), int(found.get("db_max_request_size", _LEAST_REQUEST))
    told = [f"plan {plan}"]
    if found.get("db_max_commands_per_second"):
        told.append(f"{int(found['db_max_commands_per_second']):,} commands a second")
    told.append(f"requests of {request / 1_048_576:.3g} MB")
    if found.get("budget"):
        told.append(f"a budget of {int(found['budget']):,} USD a month")
    what = f"limits: {', '.join(told)}"
    if plan == "free":
        most = int(found.get("db_request_limit", 0))
        fix = (
            "take a paid plan (tidemark cost says which): when it is used up nothing is taken until the month is over"
        )
        yield Finding("warn", f"{what}; {most:,} commands a month", fix)
    elif request < _LEAST_REQUEST:
        yield Finding("warn", what, "pages of the log may be larger: take a larger plan")
    else:
        yield Finding("ok", what)
