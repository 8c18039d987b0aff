"""`tidemark doctor`: check settings and every dependency, and say what to fix."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from infra.aws_access import with_aws_access
from infra.backends import LOG_URL, QUEUE_URLS, of_local_stack
from infra.checks.finding import TIMEOUT_S, Finding
from infra.checks.keys import examine_keys
from infra.checks.log import examine_log
from infra.checks.queues import examine_queues
from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, add_url, data_dir
from infra.local.data_dir import DataDir
from infra.local.push_signer import genuine_pushes
from shared.errors import SettingsError
from shared.settings import Function, Settings


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
    if any(environ.get(name) for name in QUEUE_URLS):
        try:
            environ = with_aws_access(environ)
        except CommandError as error:
            yield Finding("FAIL", f"queues: {error}", "without them nothing can be said of the queues")
            environ = {name: value for name, value in environ.items() if name not in QUEUE_URLS}
    elif LOG_URL not in environ and running is not None:
        environ = {**environ, **_of_local_stack(running, directory)}
    try:
        settings = Settings.of(environ, Function.LOCAL)
    except SettingsError as error:
        if running is None and LOG_URL not in environ:
            what = f"no local stack runs on {directory.path}, and {LOG_URL} is not set"
            yield Finding("FAIL", what, "start the stack: make demo, or tidemark dev")
        yield Finding("FAIL", str(error), "set them (see the README's table of settings)")
    else:
        yield Finding("ok", f"settings: stage {settings.stage}, {settings.retention_s} s of retention")
        for examine in (examine_log, examine_queues, examine_keys):
            async for finding in examine(settings):
                yield finding
    origin = url or (str(running["url"]) if running else None)
    if origin is not None:
        yield await _origin(origin)


def _of_local_stack(running: Mapping[str, Any], directory: DataDir) -> dict[str, str]:
    token_keys = directory.token_keys(os.environ)
    return {
        **of_local_stack(running, directory),
        "TIDEMARK_TOKEN_KEYS": ",".join(f"{kid}:{key}" for kid, key in token_keys.items()),
        "TIDEMARK_PUSH_AUTH": str(running["push_auth"]),
        **genuine_pushes(str(running["url"]), os.environ),
    }


async def _origin(url: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
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
