"""`tidemark doctor`: check settings and every dependency, and say what to fix."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from infra.commands.arguments import add_data_dir, add_url, data_dir
from infra.local.data_dir import DataDir
from infra.local.push_signer import genuine_pushes
from shared.counts import Counts
from shared.errors import SettingsError, TidemarkError
from shared.jwks import DOWNLOAD_ERRORS, FETCH_TIMEOUT_S, KeySet
from shared.keys import Keys
from shared.live import LiveFeed
from shared.log import Log
from shared.push_auth import ALGORITHM as PUSH_ALGORITHM
from shared.settings import Function, Settings
from shared.tokens import PROVIDER_ALGORITHMS
from shared.upstash import Upstash

_TIMEOUT_S = 5.0
_CLOCK_SKEW_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``level`` is ``ok``, ``warn`` or ``FAIL``; ``fix`` says what to do about it."""

    level: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}" + (f"\n      -> {self.fix}" if self.fix else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_url(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line a check. Returns 1 when something must be fixed."""
    return asyncio.run(_report(args.url, data_dir(args)))


async def _report(url: str | None, directory: DataDir) -> int:
    failed = False
    async for finding in _examine(url, directory):
        print(finding, flush=True)
        failed = failed or finding.level == "FAIL"
    return 1 if failed else 0


async def _examine(url: str | None, directory: DataDir) -> AsyncIterator[Finding]:
    running = directory.running()
    environ: Mapping[str, str] = os.environ
    if "UPSTASH_REDIS_REST_URL" not in environ and running is not None:
        environ = {**environ, **_of_local_stack(running, directory)}
    try:
        settings = Settings.of(environ, Function.LOCAL)
    except SettingsError as error:
        if running is None and "UPSTASH_REDIS_REST_URL" not in environ:
            what = f"no local stack runs on {directory.path}, and UPSTASH_REDIS_REST_URL is not set"
            yield Finding("FAIL", what, "start the stack: make demo, or tidemark dev")
        yield Finding("FAIL", str(error), "set them (see the README's table of settings)")
    else:
        yield Finding("ok", f"settings: stage {settings.stage}, {settings.retention_s} s of retention")
        async for finding in _examine_redis(settings):
            yield finding
        async for finding in _examine_keys(settings):
            yield finding
    origin = url or (str(running["url"]) if running else None)
    if origin is not None:
        yield await _origin(origin)


def _of_local_stack(running: Mapping[str, Any], directory: DataDir) -> dict[str, str]:
    token_keys = directory.token_keys(os.environ)
    return {
        "UPSTASH_REDIS_REST_URL": str(running["gateway_url"]),
        "UPSTASH_REDIS_REST_TOKEN": directory.keys().gateway_token,
        "TIDEMARK_TOKEN_KEYS": ",".join(f"{kid}:{key}" for kid, key in token_keys.items()),
        "TIDEMARK_PUSH_AUTH": str(running["push_auth"]),
        **genuine_pushes(str(running["url"]), os.environ),
    }


async def _examine_redis(settings: Settings) -> AsyncIterator[Finding]:
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=2)
    try:
        began = time.monotonic()
        try:
            await upstash.ping(timeout_s=_TIMEOUT_S)
        except TidemarkError as error:
            yield Finding(
                "FAIL", f"log: {error}", "check UPSTASH_REDIS_REST_URL and _TOKEN, and the database's state"
            )
            return
        yield Finding("ok", f"log: answers in {1000 * (time.monotonic() - began):.0f} ms (first request)")
        yield await _scripts(upstash, settings)
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
        return Finding("FAIL", f"scripts: {error}", "the token must be allowed to run EVAL and to write")
    taken_ms = 1000 * (time.monotonic() - began)
    skew_s = reading.clock.ms / 1000 - time.time()
    if skew_s > _CLOCK_SKEW_S:
        return Finding(
            "warn", f"scripts: the log's clock is {skew_s:.0f} s ahead of this machine's", "check both clocks"
        )
    return Finding("ok", f"scripts: run in {taken_ms:.0f} ms; the log stands at {reading.clock}")


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
        async with asyncio.timeout(_TIMEOUT_S):
            await feed.opened([topic])
            began = time.monotonic()
            await upstash.execute(["PUBLISH", keys.live(topic), "1 0-0 0-0 {}"], timeout_s=_TIMEOUT_S)
            await heard.message.wait()
    except (TimeoutError, TidemarkError) as error:
        why = str(error) or f"no message within {_TIMEOUT_S:g} s"
        return Finding("FAIL", f"live feed: {why}", "SUBSCRIBE over the REST API must work: check plan and token")
    finally:
        await feed.close()
    return Finding("ok", f"live feed: a message takes {1000 * (time.monotonic() - began):.0f} ms")


async def _server(upstash: Upstash) -> list[Finding]:
    """Look for what makes a Redis unfit to hold a log."""
    try:
        text = str(await upstash.execute(["INFO"], timeout_s=_TIMEOUT_S))
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


async def _examine_keys(settings: Settings) -> AsyncIterator[Finding]:
    """See whether the keys can be had that pushes and the tokens of an identity provider are verified with."""
    if settings.push_auth is None:
        yield Finding("warn", "pushes: taken from anybody, without a token", "set TIDEMARK_PUSH_AUTH=on")
    else:
        yield await _key_set("push keys", settings.push_auth.jwks_url, [PUSH_ALGORITHM], "TIDEMARK_PUSH_JWKS_URL")
    if settings.token_jwks_url is not None:
        name = "TIDEMARK_TOKEN_JWKS_URL"
        yield await _key_set("token keys", settings.token_jwks_url, PROVIDER_ALGORITHMS, name)


async def _key_set(what: str, url: str, algorithms: Collection[str], variable: str) -> Finding:
    """Fetch a key set as the functions do."""
    keys = KeySet(url, name="doctor", algorithms=algorithms, counts=Counts())
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            found, fresh_s = await keys.download()
    except DOWNLOAD_ERRORS as error:
        why = str(error) or f"no answer within {FETCH_TIMEOUT_S:g} s"
        return Finding(
            "FAIL", f"{what}: {why}", f"{variable} must be the URL of a JWK set that can be reached from here"
        )
    return Finding("ok", f"{what}: {len(found)} at {urlsplit(url).hostname}, fresh for {fresh_s:.0f} s")


async def _origin(url: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(f"{url}/healthz")
    except httpx.HTTPError as error:
        return Finding("FAIL", f"origin: {url} does not answer ({type(error).__name__})", "is it running?")
    if answer.status_code != httpx.codes.OK:
        return Finding(
            "FAIL",
            f"origin: {url} answers {answer.status_code}: {answer.text[:200]}",
            "see its logs (of a local stack: in its data directory, under logs)",
        )
    return Finding("ok", f"origin: {url} is healthy")
