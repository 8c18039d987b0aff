"""The gateway when Redis or the gateway itself goes away: 503 while it lasts, and it heals by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from infra.local.gateway import build_gateway, main
from tests.support.gateway import NO_TLS, GatewayProcess, GatewayThread, RedisServer, eventually, free_port


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer.running(tmp_path / "redis") as server:
        yield server


def test_a_killed_redis_is_503_and_comes_back_with_its_data(own_redis: RedisServer) -> None:
    with (
        GatewayThread.running(own_redis.url) as gateway,
        httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS) as rest,
    ):
        assert rest.get("/set/a/b").json() == {"result": "OK"}
        own_redis.kill()
        for path, body in (
            ("/", ["GET", "a"]),
            ("/pipeline", [["GET", "a"]]),
            ("/multi-exec", [["GET", "a"]]),
            ("/subscribe/a", []),
        ):
            response = rest.post(path, json=body)
            assert response.status_code == 503
            assert response.json()["error"].startswith("ERR Redis at 127.0.0.1:")
        assert rest.get("/get/a").status_code == 503
        own_redis.start()
        assert rest.get("/get/a").json() == {"result": "b"}
        assert rest.post("/multi-exec", json=[["GET", "a"]]).json() == [{"result": "b"}]


def test_feeds_end_when_redis_is_killed_and_can_be_opened_again(own_redis: RedisServer) -> None:
    with (
        GatewayThread.running(own_redis.url) as gateway,
        httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS) as rest,
    ):
        with rest.stream("GET", "/subscribe/a") as response:
            lines = response.iter_lines()
            assert next(lines) == "data: subscribe,a,1"
            own_redis.kill()
            assert list(lines) == [""]
        own_redis.start()
        with rest.stream("GET", "/subscribe/a") as response:
            assert next(response.iter_lines()) == "data: subscribe,a,1"
        eventually(lambda: gateway.stats()["connections"]["open_subscriptions"] == 0, "the feed is closed")


def test_a_request_under_way_when_redis_dies_is_503_not_silence(own_redis: RedisServer) -> None:
    with (
        GatewayThread.running(own_redis.url) as gateway,
        httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS, timeout=10) as rest,
    ):
        assert rest.get("/ping").status_code == 200
        # A stopped process accepts and reads nothing, so the request is under way until the kill.
        os.kill(own_redis.pid, signal.SIGSTOP)
        with httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS, timeout=0.3) as hasty:
            with pytest.raises(httpx.ReadTimeout):
                hasty.get("/set/a/b")
            own_redis.kill()
            assert rest.get("/get/a").status_code == 503


def test_a_gateway_that_starts_before_its_redis_is_503_until_then(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    with (
        GatewayThread.running(redis.url) as gateway,
        httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS) as rest,
    ):
        assert rest.get("/ping").status_code == 503
        try:
            redis.start()
            assert rest.get("/ping").json() == {"result": "PONG"}
        finally:
            redis.stop()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_a_second_open_feeds_or_not(
    redis_server: RedisServer, tmp_path: Path, signum: signal.Signals
) -> None:
    with GatewayProcess.running(redis_server.url, tmp_path) as gateway, httpx.Client(verify=NO_TLS) as rest:
        assert gateway.process is not None
        with rest.stream("GET", f"{gateway.url}/subscribe/a", headers=gateway.headers) as response:
            lines = response.iter_lines()
            assert next(lines) == "data: subscribe,a,1"
            started = time.monotonic()
            gateway.process.send_signal(signum)
            assert list(lines) == [""]
            assert gateway.process.wait(5) == 0
            assert time.monotonic() - started < 1
        assert gateway.log() == ""


def test_the_token_comes_from_a_file_too(redis_server: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with GatewayProcess.running(redis_server.url, tmp_path, token_file=file) as gateway:
        assert gateway.stats()["commands"] == 0
        assert gateway.process is not None
        shown = psutil.Process(gateway.process.pid)
        assert gateway.token not in " ".join([*shown.cmdline(), *shown.environ().values()])


def test_without_a_token_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEMARK_GATEWAY_TOKEN", raising=False)
    with pytest.raises(SystemExit, match="no token: give --token-file, or set TIDEMARK_GATEWAY_TOKEN"):
        main(["--port", str(free_port()), "--redis-url", "redis://127.0.0.1:1"])


def test_a_wrong_address_of_redis_is_told_as_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEMARK_GATEWAY_TOKEN", "token")
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", "--redis-url", "http://127.0.0.1:1"])
    assert caught.value.code == 2
    assert "not a Redis URL" in capsys.readouterr().err


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="token is empty"):
        build_gateway("redis://127.0.0.1", "")


@pytest.mark.parametrize("url", ["http://localhost", "rediss://localhost", "localhost:6379", "unix://"])
def test_a_url_that_is_none_of_redis_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ValueError, match="not a Redis URL"):
        build_gateway(url, "token")
