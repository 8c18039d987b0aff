"""What the command line says, and what a deployment needs of the environment."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.chaos.deployment import Target
from infra.chaos.origin import Origin
from infra.commands.arguments import add_data_dir, data_dir, rate
from infra.local.data_dir import DataDirError

_SEEDS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_BYPASS = "TIDEMARK_BYPASS_SECRET"


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be run. Without a ``target`` each seed has a stack of its own."""

    seeds: Sequence[int]
    seconds: float
    jobs: int
    require_fired: int
    target: Target | None


def read(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> Options:
    """Read the command line. Ends the process with a message that says what is wrong with it."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        target = _target(given, environ)
    except (DataDirError, ValueError) as error:
        parser.error(str(error))
    return Options(given.seeds, given.seconds, given.jobs, given.require_fired, target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.chaos",
        description="Break everything by seeded schedules, and judge what came of it.",
        epilog="Pushes to a deployment carry the token of --push-token-command, else one signed by the data "
        "directory. Its clients' tokens are signed by TIDEMARK_TOKEN_KEYS, else by the data directory. With "
        f"{_BYPASS} its rate limits do not count.",
    )
    parser.add_argument("--seeds", type=_seeds, default="1-100", metavar="A-B", help="such as 17 or 1-10,42 (1-100)")
    parser.add_argument("--seconds", type=rate, default=12.0, metavar="S", help="how long the faults last (12)")
    parser.add_argument("--jobs", type=_whole, default=1, metavar="N", help="how many seeds at a time (1)")
    parser.add_argument(
        "--require-fired", type=_whole, default=0, metavar="N", help="fail unless each kind of fault has hit so often"
    )
    parser.add_argument("--url", type=_origin, metavar="U", help="a deployment instead of stacks of its own")
    for function in ("webhook", "stream", "replay"):
        parser.add_argument(f"--{function}-url", type=_origin, metavar="U", help=f"where its {function} function is")
    parser.add_argument(
        "--push-token-command",
        type=shlex.split,
        metavar="C",
        help="prints the token of a push, such as: gcloud auth print-identity-token --include-email …",
    )
    add_data_dir(parser)
    return parser


def _target(given: argparse.Namespace, environ: Mapping[str, str]) -> Target | None:
    """Return the deployment that was named. Raises DataDirError or ValueError."""
    named = {name: getattr(given, f"{name}_url") or given.url for name in ("webhook", "stream", "replay")}
    if not any(named.values()):
        return None
    if not all(named.values()):
        raise ValueError("a deployment needs --url, or --webhook-url, --stream-url and --replay-url")
    directory = data_dir(given)
    kid, token_key = next(iter(directory.token_keys(environ).items()))
    if given.push_token_command is None:
        directory.push_signer()
    return Target(
        **named,
        kid=kid,
        token_key=token_key,
        bypass=environ.get(_BYPASS) or None,
        push_token_command=given.push_token_command,
        push_key=directory.push_key_file,
    )


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part)
        if found is None:
            raise argparse.ArgumentTypeError("must be seeds such as 17 or 1-10,42")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError("holds no seed")
    return seeds


def _whole(text: str) -> int:
    if re.fullmatch(r"\d{1,6}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def _origin(text: str) -> str:
    try:
        Origin.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
