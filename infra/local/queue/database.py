"""The database file and the one thread that uses it: what waits together is committed together.

A commit waits for the disk. While one is under way, further work gathers, and the next commit takes all of it: many
clients at once cost hardly more than one. Nobody is answered before the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from infra.local.queue.errors import QueueError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_AT_ONCE: Final = 200
_LOCK_WAIT_S: Final = 3.0


class DatabaseError(Exception):
    """The database failed: a full disk, a damaged file, a bug. Nothing of the work is kept."""


class _Job:
    """Work, and who waits for it."""

    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(self, work: Work[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """Answer, unless nobody waits any more."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Database:
    """A SQLite file in which a commit survives SIGKILL and a power cut."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def open(self) -> None:
        """Open the file, made if it is absent. Raises DatabaseError, also when another process has it open."""
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="queue-database", daemon=True)
        self._thread.start()
        error = opened.get()
        if error is not None:
            raise DatabaseError(f"{self._file}: {error}") from error

    def close(self) -> None:
        """Commit what has been asked for, and close the file."""
        if self._thread is not None and not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    async def run(self, work: Work[T]) -> T:
        """Do work in a transaction; return when it is on disk. Raises what it raises, or DatabaseError.

        Work that raises QueueError leaves no trace, whatever else is in the same transaction.
        """
        if self._closed:
            raise DatabaseError("the database is closed")
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)
        result: T = await job.future
        return result

    # -- in the thread

    def _serve(self, opened: queue.SimpleQueue[Exception | None]) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            opened.put(error)
            return
        opened.put(None)
        with contextlib.closing(connection):
            while True:
                jobs, last = self._gather()
                if jobs:
                    _commit(connection, jobs)
                    _settle(jobs)
                if last:
                    return

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=_LOCK_WAIT_S, isolation_level=None, cached_statements=256, check_same_thread=True
        )
        # Nobody else: another server's clients would not be woken by what is sent here. It ends with the process.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
        return connection

    def _gather(self) -> tuple[list[_Job], bool]:
        """Wait for work; give all that waits, and whether it is the last."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == _AT_ONCE:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True


def _commit(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    """Do the jobs in one transaction, each within a savepoint of its own."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            connection.execute("SAVEPOINT job")
            try:
                job.result = job.work(connection)
            except QueueError as error:
                connection.execute("ROLLBACK TO job")
                job.error = error
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing is on disk, and nobody may be told otherwise
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        for job in jobs:
            job.error = DatabaseError(f"{type(error).__name__}: {error}")
            job.error.__cause__ = error


def _settle(jobs: list[_Job]) -> None:
    """Answer the jobs in their event loop: one call for all of them, as there is one loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(_settle_all, settled)


def _settle_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()
