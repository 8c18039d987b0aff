"""`tidemark dlq`: dead letters: what, why, since when; put them back."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infra.backends import backends, open_queue, queues
from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, data_dir, positive
from infra.letters import Letter
from infra.redrive import Outcome, Redrive
from infra.stopping import run_to_its_end
from infra.sweep import Sweep, sweeping
from shared.delivery_queue import DeliveryQueue
from shared.errors import QueueUnavailableError
from shared.settings import Queues

_MOST = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show|redrive")
    listing = verbs.add_parser("list", help="print a line for each: what, why, since when")
    show = verbs.add_parser("show", help="print one whole")
    show.add_argument("id", metavar="ID", help="its id, as list tells it")
    again = verbs.add_parser("redrive", help="put back what failed, once that is mended")
    again.add_argument("ids", nargs="*", metavar="ID", help="these")
    again.add_argument("--all", action="store_true", help="every one")
    again.add_argument("--reason", metavar="TEXT", help="every one whose reason holds this text")
    again.set_defaults(wrong_usage=again.error)
    for verb in (listing, again):
        verb.add_argument(
            "--limit", type=positive, default=_MOST, metavar="N", help=f"look at N at most (default {_MOST})"
        )
    for verb in (listing, show, again):
        add_data_dir(verb)


def run(args: argparse.Namespace) -> int:
    """List, show or put back; one JSON object a line. Returns 1 when one was not found, or not put back."""
    if args.verb == "redrive" and [bool(args.ids), args.all, args.reason is not None].count(True) != 1:
        args.wrong_usage("say which, in one way: ids, --all or --reason TEXT")
    found = queues(backends(data_dir(args), os.environ))
    try:
        return run_to_its_end({"list": _list, "show": _show, "redrive": _redrive}[args.verb](args, found))
    except QueueUnavailableError as error:
        raise CommandError(str(error)) from None


async def _list(args: argparse.Namespace, found: Queues) -> int:
    listed = 0
    async with open_queue(found.dead_letters, found.access) as sqs, sweeping(sqs, _say) as sweep:
        async for messages in sweep.batches():
            for message in messages[: args.limit - listed]:
                _print(Letter.of(message).summary())
            listed += len(messages)
            if await _is_enough(sweep, listed, args.limit):
                break
        await _tell_of_others(sweep)
    return 0


async def _show(args: argparse.Namespace, found: Queues) -> int:
    async with open_queue(found.dead_letters, found.access) as sqs, sweeping(sqs, _say) as sweep:
        async for messages in sweep.batches():
            for message in messages:
                if message.id == args.id:
                    _print(Letter.of(message).whole())
                    return 0
        await _tell_of_others(sweep)
    _say(f"{args.id} is not among the dead letters")
    return 1


async def _redrive(args: argparse.Namespace, found: Queues) -> int:
    missing = set(args.ids)
    looked_at, failed, found_any = 0, False, False
    async with (
        open_queue(found.delivery, found.access) as delivery,
        open_queue(found.dead_letters, found.access) as sqs,
        sweeping(sqs, _say) as sweep,
    ):
        redrive = Redrive(DeliveryQueue(delivery), ids=args.ids, reason=args.reason or "")
        async for messages in sweep.batches():
            for outcome in await redrive.put_back(sweep, messages):
                _print(asdict(outcome))
                failed = failed or not outcome.redriven
                found_any = True
                missing.discard(outcome.id)
            looked_at += len(messages)
            if redrive.failure is not None:
                raise redrive.failure
            if args.ids and not missing:
                break
            if not args.ids and await _is_enough(sweep, looked_at, args.limit):
                break
        else:
            await _tell_of_others(sweep)
    if not found_any and not missing:
        _say("there is no such dead letter")
    for name in missing:
        _print(asdict(Outcome(name, redriven=False, why="not among the dead letters")))
    return 1 if failed or missing else 0


async def _is_enough(sweep: Sweep, looked_at: int, limit: int) -> bool:
    """Return whether so many were looked at as were asked for; say so if there are more."""
    if looked_at < limit:
        return False
    if looked_at > limit or await sweep.waiting() > 0:
        _say(f"there are more than {limit} dead letters: --limit N looks at more")
    return True


async def _tell_of_others(sweep: Sweep) -> None:
    hidden = await sweep.elsewhere()
    if hidden:
        _say(f"{hidden} more are in somebody else's hands just now, and cannot be looked at")


def _print(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _say(text: str) -> None:
    print(f"tidemark dlq: {text}", file=sys.stderr)
