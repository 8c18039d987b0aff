"""The Lambda Web Adapter's binary, as `cargo install` makes it.

The deployed layer, ``LambdaAdapterLayerArm64:27``, is release 1.0.0 of March 2026. The newest version of the crate
``lambda_web_adapter`` is the release candidate before it (layer 26). Between the two nothing changed that a stream
meets: the pool under SnapStart, an empty query's question mark, the body of configured error statuses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

VERSION = "1.0.0-rc1"
NAME = f"the Lambda Web Adapter (cargo install lambda_web_adapter --version ={VERSION} --locked)"


def _cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


def cargo() -> str | None:
    """Find cargo, which the emulator asks for its functions' names; None without Rust."""
    return shutil.which("cargo") or shutil.which("cargo", path=str(_cargo_home() / "bin"))


@cache
def adapter_binary() -> Path | None:
    """Find the adapter where cargo has installed this very version; None without it."""
    found = cargo()
    if found is None:
        return None
    listed = subprocess.run([found, "install", "--list"], capture_output=True, text=True, timeout=30, check=False)
    if f"lambda_web_adapter v{VERSION}:" not in listed.stdout.splitlines():
        return None
    binary = shutil.which("lambda-adapter", path=f"{_cargo_home() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    return None if binary is None else Path(binary)
