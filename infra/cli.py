"""The `tidemark` command. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from infra.local.data_dir import DataDirError, DataDirInUseError

_COMMANDS = {
    "dev": "run the whole stack on one origin",
    "push": "send Pub/Sub pushes as Google would",
    "token": "print a client token",
    "revoke": "let none of a user's tokens count any more",
    "tail": "follow the stream, one event a line",
    "dlq": "list, show and put back dead letters",
    "forget": "erase what is held about a mailbox",
    "drill": "kill the primary Redis while traffic flows, and report what came of it",
    "cost": "reckon what a deployment costs a month, and what is the cheapest that meets the load",
    "env": "print what a deployment uses, for a shell",
    "doctor": "check settings and dependencies, and say what to fix",
}


class CommandError(Exception):
    """A command cannot do what it was asked; the message says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidemark", description="Gmail changes in open browser tabs, none missed.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in _COMMANDS.items():
        importlib.import_module(f"infra.commands.{name}").add_arguments(
            commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = importlib.import_module(f"infra.commands.{args.command}").run(args)
    except (CommandError, DataDirError, DataDirInUseError) as error:
        print(f"tidemark {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # Whoever read our output has enough of it; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
