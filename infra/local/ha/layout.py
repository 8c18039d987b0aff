"""Where the parts of a highly available Redis are, and which of the two was the primary last.

A directory holds the data of both, the file of each Sentinel, and `layout.json`: names and ports. Ports are new with
every start of the whole, because somebody else may have taken the old ones. While it runs, the Sentinels' files say
who is the primary; they write them before they tell anybody. So at a start the newest of these files counts. With the
wrong one of the two as the primary, the other would drop what it has, and so where nothing says which it was, nothing
is started.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from infra.local.data_dir import DataDirError
from infra.local.ha.sentinel_file import known_primary, sentinel_file
from infra.local.loopback import HOST, steady_port

#: What the Sentinels call the pair.
MASTER: Final = "tidemark"
REDIS_NAMES: Final = ("redis-1", "redis-2")
SENTINEL_NAMES: Final = ("sentinel-1", "sentinel-2", "sentinel-3")


@dataclass(frozen=True, slots=True)
class Node:
    """One Redis: where others find it, and where it listens itself (elsewhere, if something stands in front)."""

    name: str
    port: int
    listens: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What runs where. ``before`` was the primary when this was decided."""

    directory: Path
    before: str
    nodes: tuple[Node, ...] = ()
    sentinels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def prepare(cls, directory: Path, *, fronts: bool) -> Layout:
        """Choose ports and write what the parts need, for a new start of all of them. Raises DataDirError.

        With ``fronts`` each Redis listens on another port than the one that others know.
        """
        try:
            before = _last_primary(directory)
            # First a layout without ports: if we were to die between here and the last line, the files of the old
            # Sentinels and of the new must not be read with ports that were not theirs.
            cls(directory, before).save()
            ports = _free_ports(2 * len(REDIS_NAMES) + len(SENTINEL_NAMES))
            nodes = []
            for name in REDIS_NAMES:
                (directory / name).mkdir(mode=0o700, exist_ok=True)
                port = ports.pop()
                nodes.append(Node(name, port, listens=ports.pop() if fronts else port))
            layout = cls(directory, before, tuple(nodes), {name: ports.pop() for name in SENTINEL_NAMES})
            layout.save_sentinels()
            layout.save()
        except OSError as error:
            raise DataDirError(f"cannot use {directory}: {error.strerror}") from error
        return layout

    @classmethod
    def read(cls, directory: Path) -> Layout:
        """Read the layout of what runs. Raises DataDirError."""
        try:
            kept: Any = json.loads((directory / "layout.json").read_text())
            nodes = tuple(Node(name, int(port), int(listens)) for name, port, listens in kept["nodes"])
            sentinels = {str(name): int(port) for name, port in kept["sentinels"].items()}
            before = str(kept["primary"])
        except OSError as error:
            raise DataDirError(f"cannot use {directory}: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataDirError(f"{directory / 'layout.json'} is damaged") from error
        if before not in REDIS_NAMES:
            raise DataDirError(f"{directory / 'layout.json'} is damaged")
        return cls(directory, before, nodes, sentinels)

    def primary(self) -> Node:
        """Read from the Sentinels' files which Redis is the primary, or is to be it when it starts."""
        known = []
        for name in self.sentinels:
            told = known_primary(self.sentinel_file(name), MASTER)
            known += [(told.epoch, node) for node in self.nodes if told is not None and node.port == told.port]
        if known:
            return max(known, key=lambda pair: pair[0])[1]
        return next(node for node in self.nodes if node.name == self.before)

    def data(self, name: str) -> Path:
        """Where a Redis keeps its data."""
        return self.directory / name

    def sentinel_file(self, name: str) -> Path:
        """Where a Sentinel keeps what it knows."""
        return self.directory / name / "sentinel.conf"

    @property
    def url(self) -> str:
        """What finds the primary."""
        hosts = ",".join(f"{HOST}:{port}" for port in self.sentinels.values())
        return f"redis+sentinel://{hosts}/{MASTER}"

    def save_sentinels(self) -> None:
        """Write the files that the Sentinels start with."""
        primary, replica = sorted(self.nodes, key=lambda node: node.name != self.before)
        sentinels = {name: (port, secrets.token_hex(20)) for name, port in self.sentinels.items()}
        for name, (port, own_id) in sentinels.items():
            file = self.sentinel_file(name)
            file.parent.mkdir(mode=0o700, exist_ok=True)
            text = sentinel_file(
                MASTER,
                port=port,
                own_id=own_id,
                directory=file.parent,
                primary=primary.port,
                replica=replica.port,
                others=[other for other_name, other in sentinels.items() if other_name != name],
            )
            _replace(file, text)

    def save(self) -> None:
        """Write this down for who reads it while it runs, and for the next start."""
        nodes = [(node.name, node.port, node.listens) for node in self.nodes]
        kept = {"primary": self.before, "nodes": nodes, "sentinels": dict(self.sentinels)}
        _replace(self.directory / "layout.json", json.dumps(kept))


def _last_primary(directory: Path) -> str:
    """Find out which Redis has the log. Raises DataDirError when data is there and nothing says whose counts."""
    if not (directory / "layout.json").exists() and not any((directory / name).exists() for name in REDIS_NAMES):
        return REDIS_NAMES[0]
    try:
        layout = Layout.read(directory)
    except DataDirError as error:
        raise DataDirError(
            f"{error}, and so nobody knows which Redis was the primary last: "
            f"remove {directory} to begin with an empty log"
        ) from error
    return layout.primary().name if layout.nodes else layout.before


def _free_ports(count: int) -> list[int]:
    """Give ports that nobody listens on now."""
    found: set[int] = set()
    while len(found) < count:
        found.add(steady_port())
    return list(found)


def _replace(file: Path, text: str) -> None:
    """Write a file as a whole or not at all, a power cut included."""
    draft = file.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)
