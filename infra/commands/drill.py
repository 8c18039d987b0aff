"""`tidemark drill`: kill the primary Redis while traffic flows, and report what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from infra.cli import CommandError
from infra.commands.arguments import positive, rate
from infra.drill.failover import DrillError, Fault, Plan
from infra.drill.failover import run as drill
from infra.local.children import ChildError
from infra.local.redis_server import RedisNotFoundError
from infra.stopping import run_to_its_end
from shared.drill_report import DrillReport
from shared.settings import MOST_DELAY_S

#: What a failover may take, by the promise.
FAILOVER_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--fault",
        choices=[fault.value for fault in Fault],
        default=Fault.KILL.value,
        help="what befalls the primary: it dies (default), or it hangs with its connections open",
    )
    parser.add_argument("--rate", type=rate, default=100.0, metavar="PER_S", help="pushes a second (default 100)")
    parser.add_argument(
        "--seconds", type=rate, default=30.0, metavar="S", help="how long pushes go on after the fault (default 30)"
    )
    parser.add_argument("--mailboxes", type=positive, default=10, metavar="N", help="default 10")
    parser.add_argument("--streams", type=positive, default=20, metavar="N", help="default 20")
    parser.add_argument(
        "--lag", type=_seconds, default=0.0, metavar="S", help="how far the replica is behind (default 0)"
    )
    parser.add_argument(
        "--confirm-s",
        type=_delay,
        default=0,
        metavar="S",
        help="append every push a second time after so long, as TIDEMARK_CONFIRM_S does (default: off)",
    )


def run(args: argparse.Namespace) -> int:
    """Drill on a stack of its own, print the report as JSON. Returns 1 when a promise was broken."""
    plan = Plan(
        fault=Fault(args.fault),
        per_s=args.rate,
        seconds=args.seconds,
        mailboxes=args.mailboxes,
        streams=args.streams,
        lag_s=args.lag,
        confirm_s=args.confirm_s,
    )
    with tempfile.TemporaryDirectory(prefix="tidemark-drill-", ignore_cleanup_errors=True) as directory:
        try:
            report = run_to_its_end(drill(plan, Path(directory), _say))
        except (DrillError, ChildError, RedisNotFoundError) as error:
            raise CommandError(str(error)) from None
    print(json.dumps(report.as_json()))
    faults = broken(report, confirmed=plan.confirm_s > 0)
    for fault in faults:
        _say(f"BROKEN: {fault}")
    if report.lost and not plan.confirm_s:
        _say(
            f"the failover forgot {report.lost} pushes that had been acknowledged; "
            "with TIDEMARK_CONFIRM_S (--confirm-s here) they would have been restored"
        )
    return 1 if faults else 0


def broken(report: DrillReport, *, confirmed: bool) -> list[str]:
    """Return which promises were broken. Without confirmation a failover may forget what nobody noticed."""
    faults = []
    if report.first_success_s is None:
        faults.append("no push was published again")
    elif report.first_success_s >= FAILOVER_S:
        faults.append(f"the first push was published again after {report.first_success_s:g} s")
    unexplained = report.lost if confirmed else report.lost - (report.forgotten - report.restored)
    if unexplained:
        faults.append(f"{unexplained} accepted pushes are lost")
    if report.doubled:
        faults.append(f"{report.doubled} messages stand in the log twice")
    if report.missed:
        faults.append(f"streams missed {report.missed} events and were told of no gap")
    return faults


def _say(text: str) -> None:
    print(f"tidemark drill: {text}", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number, 0 or above")
    return value


def _delay(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= value <= MOST_DELAY_S:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {MOST_DELAY_S}")
    return value
