"""The live feed alone: whose messages it brings, when it is open, and what it does when it is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from shared.keys import Keys
from shared.live import LiveFeed
from tests.support.faulty_gateway import FaultyGateway, cheap_tls
from tests.support.gateway import RedisServer
from tests.support.log_rig import Redis, own_stage
from tests.support.scripted_server import Connection, ScriptedServer
from tests.support.stream_rig import eventually

TOPIC = "gmail:a@b.c"


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.opened: list[tuple[str, ...]] = []

    def feed_opened(self, topics: Iterable[str]) -> None:
        """Keep it."""
        self.opened.append(tuple(topics))

    def feed_message(self, topic: str, message: str) -> None:
        """Keep it."""
        self.messages.append((topic, message))


@asynccontextmanager
async def feed(url: str, token: str, keys: Keys, *, most: int = 32) -> AsyncIterator[tuple[LiveFeed, Heard]]:
    """Give a live feed and what is heard by it."""
    with cheap_tls():
        live = LiveFeed(url, token, keys, max_channel_feeds=most)
    heard = Heard()
    live.start(heard)
    try:
        yield live, heard
    finally:
        await live.close()
        assert live.open_connections == 0


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Give Redis itself."""
    client = Redis(redis_server.url)
    yield client
    await client.close()


@pytest.fixture
def keys() -> Keys:
    """Give a stage of one's own."""
    return Keys(own_stage())


# --- whose messages ----------------------------------------------------------------------------------------

AWKWARD = [
    "a",
    "aa",
    "gmail:a@b.c",
    "gmail:a@b.co",
    "gmail:o'brien+x/y_z-1.2@b.c",
    "x/../y",
    "%41",
    "A",
    "+",
    "'",
    "/",
    ".",
    "..",
    ":",
    "x" * 320,
]


@pytest.mark.parametrize("most", [32, 1], ids=["a feed a topic", "one pattern feed"])
async def test_each_topic_gets_its_own_messages_whatever_its_name(
    faulty: FaultyGateway, redis: Redis, keys: Keys, most: int
) -> None:
    """Slashes, dots, quotes and pluses survive the path; a name that begins like another is another."""
    topics = [topic for topic in AWKWARD if "%" not in topic]
    async with feed(faulty.url, faulty.token, keys, most=most) as (live, heard):
        for topic in topics:
            live.follow(topic)
        async with asyncio.timeout(5):
            await live.opened(topics)
        expected = []
        for topic in topics:
            for payload in (f"of,{topic}", '1 0-0 1-1 {"a":"b, c"}'):
                await redis("PUBLISH", keys.live(topic), payload)
                expected.append((topic, payload))
        await redis("PUBLISH", keys.live("not followed"), "x")
        await redis("PUBLISH", keys.live(topics[0]), "end")
        await eventually(lambda: (topics[0], "end") in heard.messages, "the last one")
        await eventually(lambda: len(heard.messages) == len(expected) + 1, "all of them")
        assert sorted(heard.messages) == sorted([*expected, (topics[0], "end")])


async def test_a_stage_hears_nothing_of_a_stage_whose_name_begins_with_its_own(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """Also by the pattern."""
    async with feed(faulty.url, faulty.token, keys, most=1) as (live, heard):
        for topic in ("a", "b"):
            live.follow(topic)
        await live.opened(["a", "b"])
        await redis("PUBLISH", Keys(f"{keys.stage}x").live("a"), "another stage")
        await redis("PUBLISH", keys.live("a"), "mine")
        await eventually(lambda: len(heard.messages) > 0, "a message")
        assert heard.messages == [("a", "mine")]


# --- when it is open ---------------------------------------------------------------------------------------


async def test_a_topic_is_open_when_redis_has_confirmed_and_misses_nothing_from_then_on(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """A message published the moment after is heard."""
    async with feed(faulty.url, faulty.token, keys) as (live, heard):
        for number in range(20):
            live.follow(f"t:{number}")
            assert not live._is_open(f"t:{number}")
            await live.opened([f"t:{number}"])
            await redis("PUBLISH", keys.live(f"t:{number}"), "now")
        await eventually(lambda: len(heard.messages) == 20, "every message")
        assert live.open_connections == faulty.open_feeds == 20


async def test_a_server_that_accepts_and_never_confirms_is_given_up(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tried again: the next connection may be a good one."""
    del redis
    monkeypatch.setattr("shared.live.SUBSCRIBED_TIMEOUT_S", 0.1)

    async def script(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:  # not even a head
            await connection.left()
        await connection.start_feed()
        if connection.number == 2:  # no confirmation
            await connection.left()
        channel = keys.live(TOPIC).encode()
        await connection.chunk(b"data: subscribe,%s,1\n\n" % channel)
        await connection.chunk(b"data: message,%s,hello\n\n" % channel)
        await connection.left()

    async with ScriptedServer.running(script) as server, feed(server.url, "t", keys) as (live, heard):
        live.follow(TOPIC)
        async with asyncio.timeout(3):
            await live.opened([TOPIC])
        await eventually(lambda: heard.messages == [(TOPIC, "hello")], "the message")
        assert server.connections == 3


async def test_a_feed_that_was_confirmed_may_be_silent_for_as_long_as_it_likes(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience ends with the confirmation."""
    monkeypatch.setattr("shared.live.SUBSCRIBED_TIMEOUT_S", 0.05)
    later = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.start_feed()
        await connection.chunk(b"data: subscribe,x,1\n\n")
        await later.wait()
        await connection.chunk(b"data: message,x,hello\n\n")
        await connection.left()

    async with ScriptedServer.running(script) as server, feed(server.url, "t", keys) as (live, heard):
        live.follow(TOPIC)
        await live.opened([TOPIC])
        await asyncio.sleep(0.2)
        later.set()
        await eventually(lambda: len(heard.messages) == 1, "the message")
        assert server.connections == 1


# --- what arrives ------------------------------------------------------------------------------------------

WHOLE = b": hi\n\ndata: subscribe,c,1\n\ndata: message,c,one\n\ndata: message,c,two, with a comma\n\n"
WANTED = [(TOPIC, "one"), (TOPIC, "two, with a comma")]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_messages_are_whole_however_their_bytes_arrive(keys: Keys, size: int, ends: bytes) -> None:
    """Torn anywhere, several at once, any line end, comments between."""
    data = WHOLE.replace(b"\n", ends)

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.start_feed()
        for start in range(0, len(data), size):
            await connection.chunk(data[start : start + size])
        await connection.left()

    async with ScriptedServer.running(script) as server, feed(server.url, "t", keys) as (live, heard):
        live.follow(TOPIC)
        await live.opened([TOPIC])
        await eventually(lambda: len(heard.messages) == 2, "both messages")
        assert heard.messages == WANTED


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: message,c,\xff\xfe\n\n",
        b"data: pmessage,p\n\n",
        b"data: pmessage,p,c\n\n",
        b"data: " + b"x" * 1_100_000,
        b"data: {}\n\ndata: [1,2]\n\ndata: unknown,kind\n\ndata:\n\nevent: x\n\n",
    ],
    ids=["not UTF-8", "too few parts", "one part too few", "an endless line", "things unknown"],
)
async def test_garbage_on_the_feed_is_survived(keys: Keys, garbage: bytes) -> None:
    """Either it is passed over, or the feed is opened anew; the next message is heard."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.start_feed()
        await connection.chunk(b"data: subscribe,c,1\n\n")
        if connection.number == 1:
            await connection.chunk(garbage)
        await connection.chunk(b"data: message,c,hello\n\n")
        await connection.left()

    async with ScriptedServer.running(script) as server, feed(server.url, "t", keys) as (live, heard):
        live.follow(TOPIC)
        await eventually(lambda: (TOPIC, "hello") in heard.messages, "the next message")
        assert server.connections <= 2
        assert len(heard.opened) == server.connections


@pytest.mark.parametrize("status", ["401 Unauthorized", "400 Bad Request", "503 Service Unavailable", "302 Found"])
async def test_a_refusal_is_no_feed(keys: Keys, status: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again, and said in the log without the token."""
    caplog.set_level(logging.DEBUG)

    async def script(connection: Connection) -> None:
        await connection.request()
        if connection.number < 3:
            await connection.respond(b"data: subscribe,c,1\n\ndata: message,c,no\n\n", status=status)
            return
        await connection.start_feed()
        await connection.chunk(b"data: subscribe,c,1\n\n")
        await connection.left()

    async with ScriptedServer.running(script) as server, feed(server.url, "s3cret-token", keys) as (live, heard):
        live.follow(TOPIC)
        async with asyncio.timeout(3):
            await live.opened([TOPIC])
        assert server.connections == 3
        assert heard.messages == []
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records if "tidemark" in record.name)
    assert "s3cret-token" not in logged


async def test_a_listener_that_breaks_is_told_again_by_the_next_connection(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """A defect of ours ends one connection, not the feed."""
    broken = True

    async with feed(faulty.url, faulty.token, keys) as (live, heard):
        real = heard.feed_message

        def breaks(topic: str, message: str) -> None:
            if broken:
                raise RuntimeError("a defect")
            real(topic, message)

        heard.feed_message = breaks  # type: ignore[method-assign]
        live.follow(TOPIC)
        await live.opened([TOPIC])
        await redis("PUBLISH", keys.live(TOPIC), "one")
        await eventually(lambda: len(heard.opened) == 2, "it is opened again")
        broken = False
        await redis("PUBLISH", keys.live(TOPIC), "two")
        await eventually(lambda: heard.messages == [(TOPIC, "two")], "the next message")


# --- how many connections ----------------------------------------------------------------------------------


async def test_up_to_the_threshold_each_topic_has_a_feed_and_above_it_one_pattern_carries_all(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """It comes back from the pattern at half of that, and does not swing between the two."""
    topics = [f"t:{n}" for n in range(9)]
    async with feed(faulty.url, faulty.token, keys, most=8) as (live, heard):
        for topic in topics[:8]:
            live.follow(topic)
        await live.opened(topics[:8])
        assert faulty.open_feeds == 8
        live.follow(topics[8])
        await live.opened(topics)
        await eventually(lambda: faulty.open_feeds == 1, "only the pattern")
        opened = len(faulty.feeds_opened)
        assert opened == 9
        for _ in range(5):
            live.unfollow(topics[8])
            live.follow(topics[8])
        for topic in topics[5:]:
            live.unfollow(topic)
        assert (len(faulty.feeds_opened), live.open_connections) == (opened, 1)
        live.unfollow(topics[4])
        await eventually(lambda: faulty.open_feeds == 4, "a feed a topic")
        assert live._pattern is None
        await redis("PUBLISH", keys.live(topics[0]), "hello")
        await redis("PUBLISH", keys.live(topics[4]), "nobody follows this")
        await eventually(lambda: len(heard.messages) == 1, "once")
        assert heard.messages == [(topics[0], "hello")]


async def test_while_one_kind_of_feed_takes_over_from_the_other_no_message_is_lost_without_a_word(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """It comes, maybe twice; or it was still under way on a feed that has ended, and its topic is told to be open
    anew after it (so the log is read).
    """  # noqa: D205 - one sentence is not enough
    topics = [f"t:{n}" for n in range(12)]
    sent: list[tuple[str, str]] = []
    opened_before: list[int] = []
    going_on = True
    async with feed(faulty.url, faulty.token, keys, most=8) as (live, heard):
        for topic in topics[:4]:
            live.follow(topic)
        await live.opened(topics[:4])

        async def publish() -> None:
            while going_on:
                for topic in topics[:4]:
                    opened_before.append(len(heard.opened))
                    sent.append((topic, str(len(sent))))
                    await redis("PUBLISH", keys.live(topic), sent[-1][1])

        publishing = asyncio.ensure_future(publish())
        for _ in range(4):
            for topic in topics[4:]:
                live.follow(topic)
            await eventually(lambda: faulty.open_feeds == 1, "the pattern alone")
            for topic in topics[4:]:
                live.unfollow(topic)
            await eventually(lambda: faulty.open_feeds == 4, "the channels alone")
        going_on = False
        await publishing
        await redis("PUBLISH", keys.live(topics[0]), "end")
        await eventually(lambda: (topics[0], "end") in heard.messages, "the last message")
        for message, before in zip(sent, opened_before, strict=True):
            assert message in heard.messages or any(message[0] in told for told in heard.opened[before:])
        assert live.open_connections <= 10


async def test_a_pattern_that_has_died_is_opened_anew_once_for_all_its_topics(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """Two hundred topics may suspect it at the same time."""
    topics = [f"t:{n}" for n in range(200)]
    async with feed(faulty.url, faulty.token, keys) as (live, heard):
        for topic in topics:
            live.follow(topic)
        await live.opened(topics)
        await eventually(lambda: faulty.open_feeds == 1, "the pattern alone")
        opened = len(faulty.feeds_opened)
        faulty.mute_feeds()
        for topic in topics:
            live.suspect(topic)
        await eventually(lambda: len(faulty.feeds_opened) == opened + 1, "opened anew")
        await eventually(lambda: live.open_connections == 1 == faulty.open_feeds, "open")
        assert heard.opened[-1] == tuple(heard.opened[-1])
        assert set(heard.opened[-1]) == set(topics)
        await redis("PUBLISH", keys.live(topics[7]), "hello")
        await eventually(lambda: (topics[7], "hello") in heard.messages, "the message")
        assert len(faulty.feeds_opened) == opened + 1


async def test_following_and_leaving_in_a_hurry_leaves_nothing_open(
    faulty: FaultyGateway, redis: Redis, keys: Keys
) -> None:
    """Before the connection is there, before it is confirmed, and again."""
    async with feed(faulty.url, faulty.token, keys) as (live, heard):
        for turn in range(10):
            live.follow(TOPIC)
            if turn % 2:
                await asyncio.sleep(0.002 * turn)
            live.unfollow(TOPIC)
        await eventually(lambda: faulty.open_feeds == 0 and not live._closing, "nothing is open")
        assert live.open_connections == 0
        live.follow(TOPIC)
        await live.opened([TOPIC])
        await redis("PUBLISH", keys.live(TOPIC), "hello")
        await eventually(lambda: heard.messages == [(TOPIC, "hello")], "the message, once")
    await eventually(lambda: faulty.open_feeds == 0, "closed with the feed")


async def test_a_topic_that_is_left_at_any_moment_takes_no_connection_with_it(
    faulty: FaultyGateway, keys: Keys
) -> None:
    """While its feed connects, the moment after, before the confirmation: the places of all feeds stay free."""
    async with feed(faulty.url, faulty.token, keys, most=2) as (live, _heard):
        for steps in list(range(40)) * 5:
            live.follow(TOPIC)
            for _ in range(steps):
                await asyncio.sleep(0)
            live.unfollow(TOPIC)
            await eventually(lambda: not live._closing, "it is closed")
        await eventually(lambda: faulty.open_feeds == 0, "nothing is open")
        for topic in ("a", "b"):
            live.follow(topic)
        async with asyncio.timeout(2):
            await live.opened(["a", "b"])
        assert faulty.open_feeds == 2
