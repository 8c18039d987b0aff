"""The gateway's counters: benchmarks and promises ("one round trip a push") are measured with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateway import NO_TLS, GatewayThread, RedisServer, eventually


@pytest.fixture
def own(redis_server: RedisServer) -> Iterator[GatewayThread]:
    with GatewayThread.running(redis_server.url) as gateway:
        yield gateway


def client(gateway: GatewayThread) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS)


NOTHING: dict[str, Any] = {
    "requests": {"command": 0, "pipeline": 0, "multi_exec": 0, "subscribe": 0, "by_command": {}},
    "commands": 0,
    "connections": {"seen": 0, "open_subscriptions": 0},
    "delivered_messages": 0,
}


def test_asking_for_the_counters_counts_as_nothing(own: GatewayThread) -> None:
    for _ in range(3):
        assert own.stats() == NOTHING


def test_every_request_and_every_command_is_counted_once(own: GatewayThread, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    with client(own) as rest:
        rest.post("/", json=["set", key, "1"])
        rest.get(f"/get/{key}")
        rest.post("/pipeline", json=[["GET", key], ["INCR", key], ["BLPOP", key, 0]])
        rest.post("/multi-exec", json=[["GET", key]])
        rest.post("/", json=["NOSUCHCOMMAND"])
    counted = own.stats()
    assert counted["requests"] == {
        "command": 3,
        "pipeline": 1,
        "multi_exec": 1,
        "subscribe": 0,
        "by_command": {"SET": 1, "GET": 3, "INCR": 1, "BLPOP": 1, "NOSUCHCOMMAND": 1},
    }
    assert counted["commands"] == 7


def test_a_client_connection_is_counted_once_however_many_requests_it_carries(own: GatewayThread) -> None:
    with client(own) as one, client(own) as two:
        for _ in range(5):
            one.get("/ping")
            two.get("/ping")
            own.stats()
    assert own.stats()["connections"]["seen"] == 2


def test_a_request_without_the_token_counts_its_connection_only(own: GatewayThread) -> None:
    assert httpx.get(f"{own.url}/ping", verify=NO_TLS).status_code == 401
    assert own.stats() == {**NOTHING, "connections": {"seen": 1, "open_subscriptions": 0}}


def test_feeds_and_what_they_delivered_are_counted(own: GatewayThread, key_prefix: str) -> None:
    channel = f"{key_prefix}c"
    with client(own) as rest, rest.stream("GET", f"/subscribe/{channel}") as feed:
        lines = feed.iter_lines()
        next(lines)
        assert own.stats()["connections"]["open_subscriptions"] == 1
        for _ in range(3):
            rest.post("/", json=["PUBLISH", channel, "x"])
        while next(lines) == "":
            pass
        eventually(lambda: own.stats()["delivered_messages"] == 3, "three messages are delivered")
        assert own.stats()["requests"]["subscribe"] == 1
    eventually(lambda: own.stats()["connections"]["open_subscriptions"] == 0, "the feed is closed")


def test_the_counters_are_the_only_page_beside_upstashs(own: GatewayThread) -> None:
    with client(own) as rest:
        assert rest.get("/_gateway/other").status_code == 404
        assert rest.post("/_gateway/stats").status_code == 405
