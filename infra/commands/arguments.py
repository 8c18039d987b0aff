"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
from urllib.parse import urlsplit

from infra.cli import CommandError
from infra.local.data_dir import DEFAULT_URL, DataDir
from shared.errors import BadTopicError
from shared.tokens import MAX_SUBJECT
from shared.topic import check_topic, gmail_topic


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        metavar="D",
        help="where the local stack keeps its keys and data (else TIDEMARK_DATA_DIR, else .tidemark)",
    )


def data_dir(args: argparse.Namespace) -> DataDir:
    """Return the data directory that the arguments or the environment name."""
    return DataDir.of(args.data_dir, os.environ)


def add_url(parser: argparse.ArgumentParser) -> None:
    """Add ``--url``."""
    parser.add_argument(
        "--url",
        metavar="U",
        type=http_url,
        help="origin to talk to (default: the deployment's of tidemark env, else the local stack that is running)",
    )


def origin(args: argparse.Namespace, variable: str) -> str:
    """Return the origin to talk to: ``--url``, else the deployment's, else the data directory's stack's.

    ``variable`` is where `tidemark env` puts the deployment's. If no stack runs, it is where one would. Raises
    CommandError.
    """
    if args.url is not None:
        return str(args.url)
    deployed = os.environ.get(variable)
    if deployed:
        try:
            return http_url(deployed)
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"{variable} {error}") from None
    directory = data_dir(args)
    running = directory.running()
    if running is not None:
        return str(running["url"])
    print(
        f"tidemark {args.command}: no local stack runs on {directory.path}; trying {DEFAULT_URL}",
        file=sys.stderr,
    )
    return DEFAULT_URL


def http_url(text: str) -> str:
    """Take an http(s) origin."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        # Brackets without an address, or a port beyond 65535.
        good = False
    if not good:
        raise argparse.ArgumentTypeError("must be an http(s) URL")
    return text.rstrip("/")


def mailbox(text: str) -> str:
    """Take an address that can be a mailbox of Gmail."""
    if re.fullmatch(r"[^@:]+@[^@:]+", text) is None:
        raise argparse.ArgumentTypeError("must be an address such as ann@example.com")
    try:
        gmail_topic(text)
    except BadTopicError:
        raise argparse.ArgumentTypeError("holds characters that no topic may hold") from None
    return text


def topic(text: str) -> str:
    """Take a topic."""
    try:
        return check_topic(text)
    except BadTopicError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def user(text: str) -> str:
    """Take what can be the sub of a token."""
    if not 0 < len(text) <= MAX_SUBJECT:
        raise argparse.ArgumentTypeError(f"must be 1-{MAX_SUBJECT} characters")
    return text


def positive(text: str) -> int:
    """Take a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def rate(text: str) -> float:
    """Take a number a second, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value
