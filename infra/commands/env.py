"""`tidemark env`: print what a deployment uses, for a shell: eval "$(tidemark env prod)"."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys

from infra.aws_api import Aws
from infra.deployed import left_over, read_deployment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.description = (
        "Print the settings and addresses of a deployment, secrets included, as commands for a shell: "
        'eval "$(tidemark env prod)". Then token, revoke, tail, push, dlq, forget and doctor work on it.'
    )
    parser.add_argument("stage", metavar="STAGE", type=_stage, help="the stage that was deployed")
    parser.add_argument("--region", metavar="R", type=_region, help="where (default: AWS_REGION, or the profile's)")


def run(args: argparse.Namespace) -> int:
    """Print an assignment a line. Raises CommandError."""
    deployment = read_deployment(Aws(os.environ, args.region), args.stage)
    for oddity in deployment.oddities:
        print(f"tidemark env: {oddity}", file=sys.stderr)
    for name, value in sorted(deployment.settings.items()):
        _export(name, value)
    # Of a stage that the shell has worked on before; commands take an empty setting for none.
    for name in sorted(left_over(os.environ, deployment)):
        _export(name, "")
    return 0


def _export(name: str, value: str) -> None:
    # shlex.quote leaves harmless words as they are; alike is easier to read.
    quoted = shlex.quote(value)
    print(f"export {name}={quoted}" if quoted != value else f"export {name}='{value}'")


def _stage(text: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be 1-32 characters of a-z 0-9 -")
    return text


def _region(text: str) -> str:
    if re.fullmatch(r"[a-z0-9-]+", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be a region such as eu-west-1")
    return text
