"""Measurements: ``python -m bench [WHAT]``, latency unless told otherwise; ``all`` for the whole report.

Exit code 1 when something was lost, doubled or answered as it should not be. A missed target is shown, not punished:
it depends on the machine and on who else uses it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import uvloop

from bench import (
    broadcast,
    coldstart,
    cost,
    drain,
    everything,
    flood,
    latency,
    loading,
    memory,
    replay,
    slow,
    storm,
    summary,
    verification,
)
from bench.processes import raise_file_limit
from bench.raw_http import BrokenConnectionError
from bench.rounds import RoundFailedError
from infra.local.children import ChildError

_BENCHES = {
    "latency": latency,
    "broadcast": broadcast,
    "memory": memory,
    "storm": storm,
    "replay": replay,
    "cost": cost,
    "slow": slow,
    "all": everything,
    "report": summary,
    "flood": flood,
    "verification": verification,
    "drain": drain,
    "loading": loading,
    "coldstart": coldstart,
}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, print and write the results.")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, module in _BENCHES.items():
        what = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(benches.add_parser(name, help=what, description=what))
    named = bool(argv) and (argv[0] in _BENCHES or argv[0] in ("-h", "--help"))
    return parser.parse_args(argv if named else ["latency", *argv])


async def _run(args: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await _BENCHES[args.bench].run(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    args = _arguments(sys.argv[1:] if argv is None else argv)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(args))
    except (RoundFailedError, BrokenConnectionError, ChildError) as error:
        print(f"bench: failed: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("bench: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
