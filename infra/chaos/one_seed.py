"""One seed from start to end, in an event loop of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import uvloop

from infra.chaos.deployment import Deployment, Target
from infra.chaos.run import Result, run_seed
from infra.chaos.stack import Stack


def local_seed(seed: int, seconds: float) -> Result:
    """Run one seed on a stack of its own. The logs and the data of its processes are kept if it fails."""
    directory = Path(tempfile.mkdtemp(prefix=f"tidemark-chaos-{seed}-"))

    async def run() -> Result:
        async with Stack.running(directory, seed) as stack:
            return await run_seed(seed, seconds, stack)

    result = uvloop.run(run())
    if result.good:
        shutil.rmtree(directory)
    else:
        result.logs = str(directory)
    return result


def deployed_seed(seed: int, seconds: float, target: Target) -> Result:
    """Run one seed against a deployment."""

    async def run() -> Result:
        async with Deployment.running(target, seed) as deployment:
            return await run_seed(seed, seconds, deployment)

    return uvloop.run(run())
