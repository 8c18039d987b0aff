"""`tidemark tail`: follow the stream, reconnecting; one event a line."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys

from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, add_url, origin, topic
from infra.deployed import STREAM_URL
from infra.local.follow import Follower, Frame, RefusedError
from shared.errors import BadCursorError
from shared.position import Position


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--token", required=True, type=_token, metavar="T", help="a client token (see tidemark token)"
    )
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        type=topic,
        metavar="T",
        help="a topic to follow; repeatable (default: every topic that the token names)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        default="now",
        type=_start,
        metavar="F",
        help="now (default), earliest, acked or a cursor",
    )
    parser.add_argument("--client", metavar="NAME", help="name of this client; --from acked needs it")
    parser.add_argument("--json", action="store_true", help="print whole envelopes")
    add_url(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Follow until interrupted, or until the stream is refused."""
    if args.start == "acked" and args.client is None:
        raise CommandError("--from acked needs --client, the name that acknowledged")
    # By a name that it keeps it takes over its own slot when it comes back, instead of taking another's.
    client = args.client or f"tail-{secrets.token_hex(4)}"
    follower = Follower(
        origin(args, STREAM_URL), args.token, args.topic, start=args.start, client=client, on_state=_say_state
    )
    try:
        asyncio.run(_follow(follower, as_json=args.json))
    except KeyboardInterrupt:
        return 0
    except RefusedError as error:
        raise CommandError(str(error)) from None
    return 0


async def _follow(follower: Follower, *, as_json: bool) -> None:
    async for frame in follower.frames():
        if frame.name == "message":
            print(json.dumps(frame.data) if as_json else _line(frame), flush=True)
        elif frame.name == "tidemark.gap":
            print(_gap(frame), file=sys.stderr)


def _say_state(state: str) -> None:
    print(f"tidemark tail: {state}", file=sys.stderr)


def _line(frame: Frame) -> str:
    event = frame.data
    return f"{event['time']}  {event['topic']}  historyId={event['data']['historyId']}  at {event['position']}"


def _gap(frame: Frame) -> str:
    told = frame.data
    lost = f"events after {told['after']} up to {told['resume']} may be lost"
    return f"tidemark tail: gap in {told['topic']}: {lost}"


def _token(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not text:
        raise argparse.ArgumentTypeError("must be a token, as tidemark token prints it")
    return text


def _start(text: str) -> str:
    if text not in ("now", "earliest", "acked"):
        try:
            Position.parse(text)
        except BadCursorError:
            raise argparse.ArgumentTypeError("must be now, earliest, acked or a cursor") from None
    return text
