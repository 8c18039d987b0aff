"""What Upstash does not take over REST is refused here too, so that nothing comes to depend on it.

https://upstash.com/docs/redis/features/restapi ("REST - Redis API Compatibility") and
https://upstash.com/docs/redis/overall/rediscompatibility
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.gateway import NO_TLS, Gateway

NOT_OVER_REST = [
    *("BLPOP q 0", "BRPOP q 0", "BLMOVE a b LEFT RIGHT 0", "BLMPOP 0 1 q LEFT", "BRPOPLPUSH a b 0"),
    *("BZPOPMIN z 0", "BZPOPMAX z 0", "BZMPOP 0 1 z MIN"),
    *("XREAD BLOCK 0 STREAMS s $", "XREAD COUNT 1 BLOCK 5 STREAMS s $", "xread block 0 streams s $"),
    "XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 0 STREAMS s >",
    *("WATCH k", "UNWATCH", "MULTI", "EXEC", "DISCARD"),
    *("SUBSCRIBE c", "UNSUBSCRIBE c", "PSUBSCRIBE c*", "PUNSUBSCRIBE c*", "SSUBSCRIBE c", "SUNSUBSCRIBE c"),
    "MONITOR",
    *("AUTH p", "HELLO 3", "SELECT 1", "QUIT", "RESET", "CLIENT LIST", "CLIENT SETINFO LIB-NAME x"),
]
NOT_AVAILABLE = [
    *("SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "CONFIG GET save", "CONFIG SET save x", "REPLICAOF h 1"),
    *("SLAVEOF h 1", "CLUSTER INFO", "ACL WHOAMI", "SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE"),
    *("WAIT 0 1", "MODULE LIST", "SYNC", "PSYNC ? -1", "REPLCONF", "FAILOVER", "MIGRATE h 1 k 0 1"),
    *("SWAPDB 0 1", "MOVE k 1", "MEMORY DOCTOR", "SLOWLOG GET", "ROLE", "LATENCY DOCTOR", "ASKING"),
    *("SCRIPT KILL", "SCRIPT DEBUG NO", "NOSUCHCOMMAND", "JSON.GET k"),
]


@pytest.fixture
def rest(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS) as client:
        yield client


def error(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    text: str = response.json()["error"]
    return text


@pytest.mark.parametrize("command", NOT_OVER_REST)
def test_a_command_that_needs_a_connection_of_its_own_is_refused(rest: httpx.Client, command: str) -> None:
    name = command.split(maxsplit=1)[0].upper()
    text = f'ERR Command "{name}" is not allowed in REST or it has a special context path'
    assert error(rest.post("/", json=command.split())) == text
    if name not in {"SUBSCRIBE", "PSUBSCRIBE"}:  # these have paths of their own
        assert error(rest.get("/" + command.lower().replace(" ", "/"))) == text
    assert error(rest.post("/multi-exec", json=[["PING"], command.split()])) == text
    answers = rest.post("/pipeline", json=[["PING"], command.split(), ["PING"]]).json()
    assert answers == [{"result": "PONG"}, {"error": text}, {"result": "PONG"}]


@pytest.mark.parametrize("command", NOT_AVAILABLE)
def test_a_command_that_upstash_does_not_have_is_refused(rest: httpx.Client, command: str) -> None:
    words = command.split()
    name = " ".join(words[:2]) if words[0] == "SCRIPT" else words[0]
    text = (
        f"ERR Command is not available: '{name}'. "
        "See https://upstash.com/docs/redis/overall/rediscompatibility for details"
    )
    assert error(rest.post("/", json=words)) == text
    assert error(rest.post("/multi-exec", json=[["PING"], words])) == text
    answers = rest.post("/pipeline", json=[words, ["PING"]]).json()
    assert answers == [{"error": text}, {"result": "PONG"}]


def test_what_is_merely_named_block_is_not_refused(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}s"
    assert rest.post("/", json=["XADD", key, "1-1", "a", "b"]).json() == {"result": "1-1"}
    create = ["XGROUP", "CREATE", key, "BLOCK", "0"]
    assert rest.post("/", json=create).json() == {"result": "OK"}
    read = ["XREADGROUP", "GROUP", "BLOCK", "BLOCK", "COUNT", 1, "STREAMS", key, ">"]
    assert rest.post("/", json=read).json() == {"result": [[key, [["1-1", ["a", "b"]]]]]}
    both = ["XREAD", "STREAMS", key, "BLOCK", "0", "0"]
    assert rest.post("/", json=both).json() == {"result": [[key, [["1-1", ["a", "b"]]]]]}


def test_ping_and_echo_are_the_connection_commands_that_work(rest: httpx.Client) -> None:
    assert rest.get("/ping").json() == {"result": "PONG"}
    assert rest.get("/ping/hello").json() == {"result": "hello"}
    assert rest.get("/echo/hello").json() == {"result": "hello"}


def test_a_refused_command_leaves_the_shared_connection_as_it_was(rest: httpx.Client, key_prefix: str) -> None:
    for command in (["SELECT", "1"], ["MULTI"], ["HELLO", "3"], ["SUBSCRIBE", "c"], ["CLIENT", "REPLY", "OFF"]):
        error(rest.post("/", json=command))
    assert rest.post("/", json=["HSET", f"{key_prefix}h", "a", "b"]).json() == {"result": 1}
    assert rest.post("/", json=["HGETALL", f"{key_prefix}h"]).json() == {"result": ["a", "b"]}
