"""`tidemark forget`: erase what is held about a mailbox."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import asdict

from infra.backends import QUEUE_URLS, backends, log_settings, open_queue, queues
from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, data_dir, mailbox, user
from infra.forgetting import Counts, Forgetting, Mailbox
from infra.stopping import run_to_its_end
from shared.errors import TidemarkError
from shared.keys import Keys
from shared.log import Log
from shared.settings import Queues, Settings
from shared.upstash import Upstash


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "mailbox", metavar="MAILBOX", type=mailbox, help="whose events, queued and dead ones included"
    )
    parser.add_argument(
        "--user",
        action="append",
        dest="users",
        default=[],
        type=user,
        metavar="USER",
        help="whose acks go, too (the claim sub); those of a user named like the mailbox always do; repeatable",
    )
    parser.add_argument("--no-queues", action="store_true", help="this deployment has none")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Erase, and print how much there was. Returns 1 when something could not be looked at."""
    environ = backends(data_dir(args), os.environ)
    settings = log_settings(environ)
    if args.no_queues and any(environ.get(name) for name in QUEUE_URLS):
        raise CommandError("it has queues, and they may hold the mailbox: leave --no-queues out")
    found = None if args.no_queues else queues(environ)
    users = {args.mailbox, args.mailbox.lower(), *args.users}
    try:
        counts = run_to_its_end(_forget(settings, found, args.mailbox, users))
    except TidemarkError as error:
        raise CommandError(f"not everything is erased, run it again: {error}") from None
    print(json.dumps({"mailbox": args.mailbox.lower(), **asdict(counts)}))
    if counts.delayed:
        _say(
            f"{counts.delayed} copies that confirm, whoever's they are, cannot be looked at until their delay is "
            "over; none of them changes anything then, for the log knows each push"
        )
    if counts.in_flight:
        _say(
            f"{counts.in_flight} messages are in somebody else's hands just now and cannot be looked at: "
            "run it again in a minute"
        )
    if counts.unfinished:
        _say(f"{counts.unfinished} queues could not be seen to their end: run it again in a minute")
    return 1 if counts.in_flight or counts.unfinished else 0


async def _forget(settings: Settings, found: Queues | None, address: str, users: set[str]) -> Counts:
    keys = Keys(settings.stage)
    async with contextlib.AsyncExitStack() as stack:
        upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=2)
        stack.push_async_callback(upstash.close)
        log = Log(upstash, keys, settings.retention)
        forgetting = Forgetting(Mailbox(address), upstash, keys, log, dedupe_s=settings.dedupe_s, say=_say)
        if found is not None:
            delivery = await stack.enter_async_context(open_queue(found.delivery, found.access))
            dead_letters = await stack.enter_async_context(open_queue(found.dead_letters, found.access))
            confirmation = None
            if found.confirmation is not None:
                confirmation = await stack.enter_async_context(open_queue(found.confirmation, found.access))
            await forgetting.queues(delivery, confirmation, dead_letters)
        await forgetting.redis(users)
    return forgetting.counts


def _say(text: str) -> None:
    print(f"tidemark forget: {text}", file=sys.stderr)
