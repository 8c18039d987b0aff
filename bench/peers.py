"""Others that do what we do, where this machine has them: absent, they are left out, and that is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.nchan import Nchan
from bench.processes import ROOT, Processes
from bench.realtime import Realtime

#: In the order of the tables.
PEERS: tuple[type[Realtime | Nchan], ...] = (Realtime, Nchan)


@dataclass(frozen=True, slots=True)
class Present:
    """The peers that were started, and what is to be said of the others."""

    subjects: Sequence[Realtime | Nchan]
    notes: Sequence[str]


async def start_peers(processes: Processes, *, kept: int = 1000) -> Present:
    """Start every peer; their logs keep so many events of a mailbox. Raises ChildError."""
    subjects = [await peer.start(processes, kept=kept) for peer in PEERS if peer.missing() is None]
    return Present(subjects, absent())


def absent() -> list[str]:
    """Say which peers this machine lacks, and why."""
    return [f"{peer.name} is not measured: this machine lacks {lack}." for peer in PEERS if (lack := peer.missing())]


def versions() -> Mapping[str, str]:
    """Return the versions of the peers that are here."""
    told: dict[str, str] = {}
    if Realtime.missing() is None:
        names = ("@upstash/realtime", "@upstash/redis", "zod")
        of = {name: json.loads((ROOT / "node_modules" / name / "package.json").read_text("utf-8")) for name in names}
        told["node"] = f"{_said('node', '--version')}, " + ", ".join(
            f"{name} {package['version'].removeprefix('v')}" for name, package in of.items()
        )
    if Nchan.missing() is None:
        packages = ("libnginx-mod-nchan", "nginx")
        if shutil.which("dpkg-query") is not None:
            told["nginx"] = _said("dpkg-query", "--show", "--showformat=${Package} ${Version}  ", *packages)
        else:
            told["nginx"] = _said("nginx", "-v")
    return told


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
