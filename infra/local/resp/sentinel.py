"""Asking Redis Sentinels for the primary (https://redis.io/docs/latest/develop/reference/sentinel-clients/).

Each Sentinel answers for itself, and one that was away during a failover tells of a primary that is none any more.
So all are asked, and the newest configuration counts: every failover has an epoch of its own, higher than all before
it, and by it the Sentinels settle the matter among themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import hiredis

from infra.local.resp.connection import RedisAddress, RespConnectionError
from infra.local.resp.protocol import opened
from infra.local.resp.wire import Reply, packed

SCHEME: Final = "redis+sentinel"
SENTINEL_PORT: Final = 26379
#: How long a Sentinel may take to answer; without an answer it does not count.
ANSWER_TIMEOUT_S: Final = 0.5
_LARGEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """Where the Sentinels are, which of their primaries is meant, and how to log in there (not at the Sentinels)."""

    sentinels: tuple[RedisAddress, ...]
    name: str
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> SentinelUrl:
        """Read `redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/NAME`. Raises ValueError."""
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        name = unquote(parts.path.removeprefix("/"))
        if parts.scheme != SCHEME or not hosts or not name or "/" in name or parts.query or parts.fragment:
            raise ValueError(
                f"not a Redis URL of Sentinels ({SCHEME}://host:port,host:port/NAME): {parts.scheme}://…"
            )
        return cls(
            sentinels=tuple(_sentinel(text) for text in hosts.split(",")),
            name=name,
            username=unquote(username) or None,
            password=unquote(password) or None,
        )


@dataclass(frozen=True, slots=True)
class Primary:
    """What the Sentinels say: where the primary is, since which epoch."""

    epoch: int
    address: RedisAddress


async def ask(url: SentinelUrl) -> Primary:
    """Ask all Sentinels and give the newest answer. Raises RespConnectionError when none gives one."""
    answers = await asyncio.gather(*(_ask_one(sentinel, url) for sentinel in url.sentinels), return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, Primary)]
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, RespConnectionError):
            raise answer
    if not told:
        raise RespConnectionError(f"no Sentinel names a primary of {url.name!r}: {'; '.join(map(str, answers))}")
    newest = max(answer.epoch for answer in told)
    ((found, _),) = Counter(answer for answer in told if answer.epoch == newest).most_common(1)
    return found


async def _ask_one(sentinel: RedisAddress, url: SentinelUrl) -> Primary:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            protocol = await opened(sentinel, ANSWER_TIMEOUT_S)
            try:
                sent = packed(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.name)) + packed(
                    ("SENTINEL", "MASTER", url.name)
                )
                where, state = await protocol.send(sent, 2)
            finally:
                protocol.close()
    except TimeoutError:
        raise RespConnectionError(f"{sentinel} did not answer within {ANSWER_TIMEOUT_S} s") from None
    except RespConnectionError as error:
        raise RespConnectionError(f"{sentinel}: {error}") from error
    for reply in (where, state):
        if isinstance(reply, hiredis.ReplyError):
            raise RespConnectionError(f"{sentinel}: {reply}")
    if where is None:
        raise RespConnectionError(f"{sentinel} does not know it")
    try:
        host, port = _strings(where)
        fields = _strings(state)
        epoch = _number(dict(zip(fields[::2], fields[1::2], strict=True))["config-epoch"])
        address = RedisAddress(host, _port(port), username=url.username, password=url.password, only_primary=True)
    except (ValueError, KeyError):
        raise RespConnectionError(f"{sentinel} answered what no Sentinel says") from None
    return Primary(epoch, address)


def _sentinel(text: str) -> RedisAddress:
    parts = urlsplit(f"//{text}")  # for the sake of [::1]:26379
    if not parts.hostname or parts.netloc != text:
        raise ValueError(f"not a Redis URL: a Sentinel is host:port, not {text!r}")
    return RedisAddress(parts.hostname, SENTINEL_PORT if parts.port is None else parts.port)


def _strings(reply: Reply) -> Sequence[str]:
    """Take a list of strings. Raises ValueError for anything else."""
    items: list[Any] = reply if isinstance(reply, list) else []
    if not items or not all(isinstance(item, bytes) for item in items):
        raise ValueError("not a list of strings")
    return [item.decode("ascii") for item in items]


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError("not a number")
    return int(text)


def _port(text: str) -> int:
    if not 0 < _number(text) <= _LARGEST_PORT:
        raise ValueError("not a port")
    return int(text)
