"""Whether the log can be used: that Redis answers, runs our scripts, can be written to, and is fit to hold a log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from infra.checks.finding import TIMEOUT_S, Finding
from shared.errors import LogUnavailableError, TidemarkError, Trouble
from shared.keys import Keys
from shared.live import LiveFeed
from shared.log import Log
from shared.settings import Settings
from shared.upstash import Upstash

_CLOCK_SKEW_S: Final = 5.0
#: What to do about each trouble. While it lasts pushes wait in the delivery queue.
_ADVICE: Final[Mapping[Trouble, str]] = {
    Trouble.QUOTA: "a limit of the plan is used up: raise it, or wait until it begins anew",
    Trouble.CREDENTIALS: (
        "the database does not take UPSTASH_REDIS_REST_TOKEN, or not for this: was it rotated? Set the one that the "
        "database's console shows, not the read-only one, in every function"
    ),
    Trouble.LOADING: "the server has just started, or a script keeps it busy: wait, and look again",
    Trouble.READ_ONLY: (
        "this is a replica, or it cannot write: wait a minute, for a failover may be under way, then see the "
        "database's state and disk"
    ),
    Trouble.NO_ANSWER: "check UPSTASH_REDIS_REST_URL, the network from here to there, and the database's state",
    Trouble.UNREADABLE: "what answers is not the database: is UPSTASH_REDIS_REST_URL right, is a proxy between?",
    Trouble.OTHER: "these words are not known here: see the database's state in its console",
}
_DEFECT: Final = "the database refuses what works elsewhere: another kind of Redis, or keys of ours were overwritten"


async def examine_log(settings: Settings) -> AsyncIterator[Finding]:
    """Use it once in each way that the functions do."""
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=2)
    try:
        began = time.monotonic()
        try:
            await upstash.ping(timeout_s=TIMEOUT_S)
        except TidemarkError as error:
            yield Finding("FAIL", f"log: {error}", _advice(error))
            return
        yield Finding("ok", f"log: answers in {1000 * (time.monotonic() - began):.0f} ms (first request)")
        yield await _scripts(upstash, settings)
        yield await _writing(upstash, settings)
        yield await _live_feed(upstash, settings)
        for finding in await _server(upstash):
            yield finding
    finally:
        await upstash.close()


async def _scripts(upstash: Upstash, settings: Settings) -> Finding:
    log = Log(upstash, Keys(settings.stage), settings.retention)
    try:
        began = time.monotonic()
        reading = await log.read({}, limit=1)
    except TidemarkError as error:
        return Finding("FAIL", f"scripts: {error}", _advice(error))
    taken_ms = 1000 * (time.monotonic() - began)
    skew_s = reading.clock.ms / 1000 - time.time()
    if skew_s > _CLOCK_SKEW_S:
        return Finding(
            "warn", f"scripts: the log's clock is {skew_s:.0f} s ahead of this machine's", "check both clocks"
        )
    return Finding("ok", f"scripts: run in {taken_ms:.0f} ms; the log stands at {reading.clock}")


async def _writing(upstash: Upstash, settings: Settings) -> Finding:
    """Write something: a replica answers everything else."""
    try:
        await upstash.execute(["SET", Keys(settings.stage).probe, "1", "EX", 10], timeout_s=TIMEOUT_S)
    except TidemarkError as error:
        return Finding("FAIL", f"writing: {error}", _advice(error))
    return Finding("ok", "writing: works")


def _advice(error: TidemarkError) -> str:
    return _ADVICE[error.trouble] if isinstance(error, LogUnavailableError) else _DEFECT


class _Heard:
    """Waits for one message of the live feed."""

    def __init__(self) -> None:
        self.message = asyncio.Event()

    def feed_opened(self, topics: Iterable[str]) -> None:
        """Nothing to do: the check waits for the subscription itself."""

    def feed_message(self, topic: str, message: str) -> None:  # noqa: ARG002 - the listener's signature
        """Note that a message came."""
        self.message.set()


async def _live_feed(upstash: Upstash, settings: Settings) -> Finding:
    """Subscribe to a channel of our own, publish to it, and wait for the message."""
    keys, topic, heard = Keys(settings.stage), f"doctor:{secrets.token_hex(4)}", _Heard()
    feed = LiveFeed(settings.redis_url, settings.redis_token, keys)
    feed.start(heard)
    feed.follow(topic)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await feed.opened([topic])
            began = time.monotonic()
            await upstash.execute(["PUBLISH", keys.live(topic), "1 0-0 0-0 {}"], timeout_s=TIMEOUT_S)
            await heard.message.wait()
    except (TimeoutError, TidemarkError) as error:
        why = str(error) or f"no message within {TIMEOUT_S:g} s"
        return Finding("FAIL", f"live feed: {why}", "SUBSCRIBE over the REST API must work: check plan and token")
    finally:
        await feed.close()
    return Finding("ok", f"live feed: a message takes {1000 * (time.monotonic() - began):.0f} ms")


async def _server(upstash: Upstash) -> list[Finding]:
    """Look for what makes a Redis unfit to hold a log."""
    try:
        text = str(await upstash.execute(["INFO"], timeout_s=TIMEOUT_S))
    except TidemarkError as error:
        fix = "see in the database's console that eviction is off"
        return [Finding("warn", f"server: INFO is not to be had ({error})", fix)]
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    findings = []
    policy = info.get("maxmemory_policy")
    if policy is None:
        fix = "see in the database's console that eviction is off"
        findings.append(Finding("warn", "eviction: the server does not tell its policy", fix))
    elif policy == "noeviction":
        findings.append(Finding("ok", "eviction: off"))
    else:
        findings.append(Finding("FAIL", f"eviction: {policy} may drop events", "turn eviction off for this database"))
    if info.get("cluster_enabled", "0").strip() == "1":
        fix = "use a database without hash slots: one script spans several keys"
        findings.append(Finding("FAIL", "cluster: this Redis is clustered", fix))
    return findings
