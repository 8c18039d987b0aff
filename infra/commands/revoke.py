"""`tidemark revoke`: let none of a user's tokens count any more."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, data_dir, user
from infra.local.data_dir import DataDir
from shared.errors import SettingsError, TidemarkError
from shared.keys import Keys
from shared.log import Log, Revocation
from shared.settings import Function, Settings
from shared.upstash import Upstash


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("user", metavar="USER", type=user, help="whose tokens (the claim sub)")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Revoke, and print from when on tokens count again: those that are issued later."""
    try:
        settings = Settings.of(_environ(data_dir(args)), Function.WEBHOOK)
    except SettingsError as error:
        raise CommandError(str(error)) from None
    try:
        revocation = asyncio.run(_revoke(settings, args.user))
    except TidemarkError as error:
        raise CommandError(f"not revoked: {error}") from None
    moment = datetime.fromtimestamp(revocation.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"user": args.user, "revoked_at": moment.replace("+00:00", "Z")}))
    return 0


def _environ(directory: DataDir) -> Mapping[str, str]:
    """Return where the log is: the environment's database, else that of the local stack."""
    # What a push must say is nothing to a command that takes none.
    environ = {**os.environ, "TIDEMARK_PUSH_AUTH": "off"}
    environ.pop("AWS_LAMBDA_FUNCTION_NAME", None)
    if "UPSTASH_REDIS_REST_URL" in environ:
        return environ
    running = directory.running()
    if running is None:
        raise CommandError(
            f"no local stack runs on {directory.path}, and UPSTASH_REDIS_REST_URL is not set: nothing is revoked"
        )
    return {
        **environ,
        "UPSTASH_REDIS_REST_URL": str(running["gateway_url"]),
        "UPSTASH_REDIS_REST_TOKEN": directory.keys().gateway_token,
    }


async def _revoke(settings: Settings, name: str) -> Revocation:
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=1)
    try:
        return await Log(upstash, Keys(settings.stage), settings.retention).revoke(name)
    finally:
        await upstash.close()
