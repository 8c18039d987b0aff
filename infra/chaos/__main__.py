"""The chaos harness: ``python -m infra.chaos --seeds 1-100 --jobs 2``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from infra.chaos.arguments import Options, read
from infra.chaos.deployment import left_out
from infra.chaos.one_seed import deployed_seed, local_seed
from infra.chaos.report import again, details, exit_code, line, summary
from infra.chaos.run import Result
from infra.local.children import die_with


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds and print what became of them. Returns 1 when one has failed."""
    options = read(argv)
    # A shell that starts this in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    deployed = options.target is not None
    if deployed:
        print("\n".join(left_out()), flush=True)
    began = time.monotonic()
    results: list[Result] = []
    for result in _results(options):
        results.append(result)
        print(line(result), flush=True)
        if not result.good:
            command = again(result.seed, options.seconds, deployed=deployed)
            print("\n".join(details(result, command)), flush=True)
    print("\n".join(summary(results)))
    print(f"took {time.monotonic() - began:.0f} s")
    code, why = exit_code(results, options.require_fired)
    if why:
        print(why)
    return code


def _results(options: Options) -> Iterator[Result]:
    if options.target is None:
        run = partial(local_seed, seconds=options.seconds)
    else:
        run = partial(deployed_seed, seconds=options.seconds, target=options.target)
    if options.jobs <= 1:
        yield from map(run, options.seeds)
        return
    # Not forked: each is to have an event loop and signals of its own.
    context = multiprocessing.get_context("spawn")
    # They die with this process, and their stacks with them, however that goes.
    with ProcessPoolExecutor(options.jobs, context, initializer=die_with, initargs=(os.getpid(),)) as pool:
        yield from pool.map(run, options.seeds)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
