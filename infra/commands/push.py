"""`tidemark push`: send Pub/Sub pushes as Google would, to a deployment with a token that Google has made."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping

import httpx

from infra.cli import CommandError
from infra.commands.arguments import add_data_dir, add_url, data_dir, mailbox, origin, positive, rate
from infra.deployed import WEBHOOK_URL
from infra.local.mail import fresh_message_id, history_ids, push_body

#: Pub/Sub waits 10 s for an answer by default.
_TIMEOUT_S = 10.0
#: How long a command may take to print a token.
_TOKEN_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("mailbox", metavar="MAILBOX", type=mailbox, help="address whose mail has changed")
    parser.add_argument("--history-id", type=positive, metavar="N", help="the first history id")
    parser.add_argument("--message-id", metavar="ID", help="the same message id for every push (a redelivery)")
    parser.add_argument("--count", type=positive, default=1, metavar="N", help="how many pushes (default 1)")
    parser.add_argument("--rate", type=rate, metavar="PER_S", help="pushes a second (default: one after the other)")
    parser.add_argument(
        "--push-token-command",
        type=shlex.split,
        metavar="C",
        help="prints the token that a deployment takes, such as: gcloud auth print-identity-token --include-email … "
        "(default: one that the local stack takes)",
    )
    add_url(parser)
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Send the pushes and print each answer. Returns 1 when one was not acknowledged, which ends a plain series."""
    url = origin(args, WEBHOOK_URL)
    if args.push_token_command is None:
        return asyncio.run(_send(args, url, data_dir(args).push_signer().authorization))
    header = {"Authorization": f"Bearer {_printed(args.push_token_command)}"}
    return asyncio.run(_send(args, url, lambda: header))


def _printed(command: list[str]) -> str:
    """Return the token that a command prints. Raises CommandError."""
    try:
        # What it says to people goes where ours does.
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=_TOKEN_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandError(f"--push-token-command: {error}") from None
    token = told.stdout.strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise CommandError("--push-token-command prints no token")
    return token


async def _send(args: argparse.Namespace, url: str, authorization: Callable[[], Mapping[str, str]]) -> int:
    ids = history_ids(args.history_id)
    failed = 0
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client:

        async def one() -> None:
            nonlocal failed
            body = push_body(args.mailbox, next(ids), args.message_id or fresh_message_id())
            try:
                answer = await client.post("/push", json=body, headers=dict(authorization()))
            except httpx.HTTPError as error:
                failed += 1
                print(f"tidemark push: {url} did not answer: {error or type(error).__name__}", file=sys.stderr)
                return
            failed += not answer.is_success
            print(_line(answer), flush=True)

        if args.rate is None:
            for _ in range(args.count):
                await one()
                if failed:
                    break
        else:
            await _paced(one, args.count, args.rate)
    return 1 if failed else 0


async def _paced(one: Callable[[], Coroutine[None, None, None]], count: int, per_s: float) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
            group.create_task(one())


def _line(answer: httpx.Response) -> str:
    try:
        return json.dumps(answer.json())
    except ValueError:
        return json.dumps({"status": answer.status_code, "body": answer.text[:200]})
