"""The queue server's database thread: what is committed together, and what fails alone or with the rest."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.queue.database import Database, DatabaseError
from infra.local.queue.errors import QueueError, missing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queues.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    opened = Database(file)
    opened.open()
    yield opened
    opened.close()


def insert(name: str) -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO deleted_queues VALUES (?, 0)", (name,))
        return name

    return work


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM deleted_queues ORDER BY name")]


async def together(database: Database, *works: Callable[[sqlite3.Connection], object]) -> list[object]:
    """Run works so that one transaction takes them all: they gather while another is under way."""
    started, go = threading.Event(), threading.Event()

    def hold(_connection: sqlite3.Connection) -> None:
        started.set()
        go.wait(10)

    holding = asyncio.ensure_future(database.run(hold))
    await asyncio.to_thread(started.wait, 10)
    running = [asyncio.ensure_future(database.run(work)) for work in works]
    await asyncio.sleep(0)  # each has handed in its work
    go.set()
    await holding
    return await asyncio.gather(*running, return_exceptions=True)


async def test_what_waits_together_is_one_transaction(database: Database) -> None:
    counts: list[int] = []

    def count(connection: sqlite3.Connection) -> None:
        # Of this connection, what stands in the transaction that is open.
        counts.append(len(names(connection)) if connection.in_transaction else -1)

    assert await together(database, insert("a"), count, insert("b"), count) == ["a", None, "b", None]
    assert counts == [1, 2]


async def test_work_that_is_refused_leaves_no_trace_and_the_rest_is_kept(database: Database) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise missing("everything")

    first, refused, last = await together(database, insert("a"), refuse, insert("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(refused, QueueError)
    assert await database.run(names) == ["a", "b"]


async def test_a_failure_is_told_to_all_whose_work_is_not_on_disk(database: Database) -> None:
    def fail(_connection: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    results = await together(database, insert("a"), fail, insert("b"))
    assert [type(result) for result in results] == [DatabaseError] * 3
    assert await database.run(names) == []
    await database.run(insert("afterwards"))
    assert await database.run(names) == ["afterwards"]


async def test_a_disk_that_is_full_is_told_and_nothing_is_kept(database: Database) -> None:
    (pages,) = await database.run(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    await database.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(DatabaseError, match="full"):
        await database.run(insert("x" * 100_000))
    assert await database.run(names) == []
    await database.run(insert("small"))


async def test_work_whose_asker_has_gone_is_done_all_the_same(database: Database) -> None:
    asking = asyncio.ensure_future(database.run(insert("a")))
    await asyncio.sleep(0)
    asking.cancel()
    assert await database.run(names) == ["a"]


async def test_a_closed_database_has_kept_what_was_asked_for_and_takes_no_more(file: Path) -> None:
    database = Database(file)
    database.open()
    asked = [asyncio.ensure_future(database.run(insert(str(number)))) for number in range(300)]
    await asyncio.sleep(0)
    database.close()
    assert await asyncio.gather(*asked) == [str(number) for number in range(300)]
    with pytest.raises(DatabaseError):
        await database.run(names)
    again = Database(file)
    again.open()
    assert len(await again.run(names)) == 300
    again.close()
