"""The file of a Redis Sentinel: what we write before it starts, and what we read of what it has written since."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

#: How long a Redis must be silent to be taken for dead, by one Sentinel; two of three must agree.
DOWN_AFTER_MS: Final = 2000
QUORUM: Final = 2
# Twice this passes before the next try when a failover came to nothing, a split vote for example.
_FAILOVER_TIMEOUT_MS: Final = 3000


class Known(NamedTuple):
    """Which port the primary has, and since which epoch: a higher one is newer."""

    epoch: int
    port: int


def sentinel_file(
    master: str,
    *,
    port: int,
    own_id: str,
    directory: Path,
    primary: int,
    replica: int,
    others: Sequence[tuple[int, str]],
) -> str:
    """Compose the file of a Sentinel that knows all the others (port and id) from its first moment on.

    It could find them out, but until it has, the primary may die and nothing would follow. Sentinel writes the file
    anew whenever it learns something.
    """
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        "protected-mode no",
        "daemonize no",
        f"dir {_quoted(str(directory))}",
        f"sentinel myid {own_id}",
        f"sentinel monitor {master} 127.0.0.1 {primary} {QUORUM}",
        f"sentinel down-after-milliseconds {master} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {master} {_FAILOVER_TIMEOUT_MS}",
        f"sentinel known-replica {master} 127.0.0.1 {replica}",
        *(f"sentinel known-sentinel {master} 127.0.0.1 {other} {other_id}" for other, other_id in others),
    ]
    return "\n".join(lines) + "\n"


def known_primary(file: Path, master: str) -> Known | None:
    """Read who was the primary when the Sentinel wrote its file last; None if that cannot be read."""
    text = ""
    with contextlib.suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
    monitor = re.search(rf"^sentinel monitor {re.escape(master)} \S+ (\d{{1,5}}) \d+$", text, re.MULTILINE)
    epoch = re.search(rf"^sentinel config-epoch {re.escape(master)} (\d{{1,20}})$", text, re.MULTILINE)
    # Before its first write there is no epoch yet.
    return Known(int(epoch[1]) if epoch else 0, int(monitor[1])) if monitor else None


def _quoted(text: str) -> str:
    """Quote a path as Redis reads it in its configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
