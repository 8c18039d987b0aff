"""`tidemark doctor`: check settings and every dependency, and say what to fix."""

from __future__ import annotations

import argparse
import asyncio
import os

from infra.checks.examination import Examination
from infra.commands.arguments import add_data_dir, add_url, data_dir, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_url(parser)
    parser.add_argument(
        "--streams", type=positive, metavar="N", help="streams that are wanted at the same time, on Lambda"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line a check. Returns 1 when something must be fixed."""
    return asyncio.run(_report(Examination(data_dir(args), os.environ, url=args.url, streams=args.streams)))


async def _report(examination: Examination) -> int:
    failed = False
    async for finding in examination.findings():
        print(finding, flush=True)
        failed = failed or finding.level == "FAIL"
    return 1 if failed else 0
