"""`tidemark token`: print a client token, as an application would sign it."""

from __future__ import annotations

import argparse
import os
import time

from infra.commands.arguments import add_data_dir, data_dir, positive, user
from shared.errors import BadTopicError
from shared.tokens import MAX_LIFE_S, mint
from shared.topic import check_topic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("user", metavar="USER", type=user, help="whose token it is (the claim sub)")
    parser.add_argument(
        "--topic",
        action="append",
        required=True,
        type=_topic_or_prefix,
        metavar="T",
        help="a topic that it allows, or a prefix ending in *; repeatable",
    )
    parser.add_argument("--ttl", type=_ttl, default=3600, metavar="S", help="life time in seconds (default 3600)")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Print a token. Signs with the first of TIDEMARK_TOKEN_KEYS, else with the local stack's key."""
    kid, key = _key(args)
    print(mint(args.user, args.topic, kid=kid, key=key, ttl_s=args.ttl, now=time.time()))
    return 0


def _ttl(text: str) -> int:
    life_s = positive(text)
    if life_s > MAX_LIFE_S:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_LIFE_S} seconds")
    return life_s


def _topic_or_prefix(text: str) -> str:
    # A mailbox's topic is in lower case; an address is often typed otherwise.
    named = text.lower() if text.lower().startswith("gmail:") else text
    try:
        if named != "*":
            check_topic(named.removesuffix("*"))
    except BadTopicError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return named


def _key(args: argparse.Namespace) -> tuple[str, str]:
    return next(iter(data_dir(args).token_keys(os.environ).items()))
