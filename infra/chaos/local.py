"""One seed on a stack of its own, which is started for it and gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import uvloop

from infra.chaos.run import Result, run_seed
from infra.chaos.stack import Stack


def local_seed(seed: int, seconds: float) -> Result:
    """Run one seed on a stack of its own. The logs of its processes are kept if it fails."""
    directory = Path(tempfile.mkdtemp(prefix=f"tidemark-chaos-{seed}-"))

    async def run() -> Result:
        async with Stack.running(directory, seed) as stack:
            return await run_seed(seed, seconds, stack, prefix=f"chaos{seed}-")

    result = uvloop.run(run())
    result.logs = str(directory)
    if result.verdict.good and result.healed_s is not None:
        shutil.rmtree(directory)
    return result
