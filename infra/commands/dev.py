"""`tidemark dev`: the whole stack on one origin."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time

import httpx

from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, data_dir, rate
from infra.local.children import ChildError
from infra.local.data_dir import DataDir
from infra.local.follow import Follower
from infra.local.redis_server import RedisNotFoundError
from infra.local.resp import RedisAddress
from infra.local.stack import PortTakenError, Stack
from shared.tokens import MAX_LIFE_S, mint

_MAILBOXES = ("ann@example.com", "ben@example.com", "cleo@example.com")
_LARGEST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--port", type=_port, default=8787, metavar="P", help="port of the origin (default 8787; 0: any)"
    )
    redis = parser.add_mutually_exclusive_group()
    redis.add_argument(
        "--redis-url", type=_redis_url, metavar="URL", help="use this Redis instead of an embedded one"
    )
    redis.add_argument(
        "--ha", action="store_true", help="two Redis and three Sentinels, which fail over when the primary dies"
    )
    parser.add_argument(
        "--push-auth",
        choices=("on", "off"),
        default="on",
        help="whether pushes must be signed, as tidemark push does (default on; off for Google's emulator)",
    )
    parser.add_argument(
        "--simulate", type=rate, metavar="PER_S", help="send simulated mail at this rate and print what arrives"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C."""
    directory = data_dir(args)
    with directory.locked():
        return asyncio.run(_serve(args, directory))


async def _serve(args: argparse.Namespace, directory: DataDir) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        stack = Stack(
            directory, port=args.port, redis_url=args.redis_url, push_auth=args.push_auth, say=_say, ha=args.ha
        )
    except PortTakenError as error:
        raise CommandError(f"{error}; choose another with --port") from None
    work: asyncio.Task[None] | None = None
    stop = asyncio.ensure_future(stopping.wait())
    try:
        starting = asyncio.ensure_future(stack.start())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        starting.result()
        print(f"tidemark dev: ready on {stack.url}", flush=True)
        if args.simulate:
            work = asyncio.ensure_future(_simulate(stack.url, directory, args.simulate))
        await asyncio.wait([stop, *([work] if work else [])], return_when=asyncio.FIRST_COMPLETED)
        if work is not None and work.done():
            work.result()
    except (ChildError, RedisNotFoundError) as error:
        raise CommandError(str(error)) from None
    finally:
        if work is not None:
            work.cancel()
        await stack.stop()
    _say(f"stopped; the log is kept in {directory.path}")
    return 0


def _say(text: str) -> None:
    print(f"tidemark dev: {text}", file=sys.stderr, flush=True)


async def _simulate(url: str, directory: DataDir, per_s: float) -> None:
    """Send mail to a few mailboxes, follow them as a client, and print each event that arrives."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_print_arrivals(url, directory))
        group.create_task(_send_mail(url, per_s))


async def _send_mail(url: str, per_s: float) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False) as client:
        while True:
            await asyncio.sleep(random.expovariate(per_s))
            mailbox = random.choice(_MAILBOXES)  # noqa: S311
            try:
                await client.post("/dev/mail", json={"mailbox": mailbox})
            except httpx.HTTPError as error:
                _say(f"simulated mail was not accepted: {type(error).__name__}")


async def _print_arrivals(url: str, directory: DataDir) -> None:
    kid, key = next(iter(directory.token_keys(os.environ).items()))
    topics = [f"gmail:{mailbox}" for mailbox in _MAILBOXES]
    while True:
        token = mint("demo", topics, kid=kid, key=key, ttl_s=MAX_LIFE_S, now=time.time())
        async for frame in Follower(url, token, topics).frames():
            if frame.name == "message":
                event = frame.data
                print(
                    f"tidemark dev: mail for {event['subject']} (historyId {event['data']['historyId']})", flush=True
                )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {_LARGEST_PORT}")
    return int(text)


def _redis_url(text: str) -> str:
    try:
        RedisAddress.from_url(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be redis://host:port or unix:///path") from None
    return text
