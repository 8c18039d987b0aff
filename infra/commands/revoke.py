"""`tidemark revoke`: let none of a user's tokens count any more."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from datetime import UTC, datetime

from infra.backends import backends, log_settings
from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, data_dir, user
from shared.errors import TidemarkError
from shared.keys import Keys
from shared.log import Log, Revocation
from shared.settings import Settings
from shared.upstash import Upstash


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("user", metavar="USER", type=user, help="whose tokens (the claim sub)")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Revoke, and print from when on tokens count again: those that are issued later."""
    settings = log_settings(backends(data_dir(args), os.environ))
    try:
        revocation = asyncio.run(_revoke(settings, args.user))
    except TidemarkError as error:
        raise CommandError(f"not revoked: {error}") from None
    moment = datetime.fromtimestamp(revocation.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"user": args.user, "revoked_at": moment.replace("+00:00", "Z")}))
    return 0


async def _revoke(settings: Settings, name: str) -> Revocation:
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=1)
    try:
        return await Log(upstash, Keys(settings.stage), settings.retention).revoke(name)
    finally:
        await upstash.close()
