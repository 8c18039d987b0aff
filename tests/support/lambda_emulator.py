"""Lambda on this machine: cargo-lambda's emulator, with environments that a test starts, freezes and ends.

    async with LambdaEmulator.running(directory, "webhook", "stream") as emulator:
        environment = await emulator.start("webhook", Kind.PYTHON, artifact, "functions.webhook.handler.handler", …)
        emulator.port("webhook")                          # its function URL
        await emulator.invoke("webhook", {"Records": []})

One process of the emulator serves all functions. What it does unlike Lambda is made up for in `runtime_api` and
`lambda_url`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from infra.chaos.part import Part
from infra.local.loopback import HOST, steady_port
from tests.support.deployed import adapter_settings
from tests.support.gateway import NO_TLS
from tests.support.lambda_adapter import NAME as ADAPTER
from tests.support.lambda_adapter import adapter_binary, cargo
from tests.support.lambda_environment import Environment, Kind, Runtime, stopped
from tests.support.lambda_url import LambdaUrl
from tests.support.require import require
from tests.support.runtime_api import RuntimeApi

INVOKE_TIMEOUT_S = 30.0


def require_emulator() -> None:
    """Skip the running test where the emulator cannot run; fail it in a run that must be complete."""
    require(cargo() is not None, "cargo (Rust), which the emulator of Lambda asks for its functions")
    require(adapter_binary() is not None, ADAPTER)


class LambdaEmulator:
    """The emulator and everything that a test has started in it."""

    def __init__(self, directory: Path, functions: Iterable[str]) -> None:
        self._directory = directory
        self._functions = tuple(functions)
        self._runtime = Runtime(directory / "machine")
        self._environments: list[Environment] = []
        self._urls: dict[str, LambdaUrl] = {}
        self._closing = contextlib.AsyncExitStack()
        self._port = steady_port()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, *functions: str) -> AsyncIterator[LambdaEmulator]:
        """Start the emulator with functions of these names, and end it and all their environments for sure."""
        require_emulator()
        emulator = cls(directory, functions)
        part = emulator._part()
        try:
            await part.start()
            async with emulator._closing:
                for name in functions:
                    url = LambdaUrl.running(name, emulator._port)
                    emulator._urls[name] = await emulator._closing.enter_async_context(url)
                yield emulator
        finally:
            await stopped(emulator._environments)
            part.stop()

    def port(self, function: str) -> int:
        """Where a function's URL is."""
        return self._urls[function].port

    def url(self, function: str) -> LambdaUrl:
        """Give a function's URL."""
        return self._urls[function]

    async def begin(
        self,
        function: str,
        kind: Kind,
        artifact: Path,
        handler: str,
        settings: Mapping[str, str],
        *,
        timeout_s: float = 900,
        beside: Iterable[Path] = (),
    ) -> Environment:
        """Start one more environment of a function; returns at once."""
        running = RuntimeApi.running(function, self._port, timeout_s=timeout_s)
        api = await self._closing.enter_async_context(running)
        log = self._directory / f"{function}-{len(self._environments)}.log"
        environment = Environment(api, log)
        self._environments.append(environment)
        if kind is Kind.ADAPTER:
            settings = {**adapter_settings(), "AWS_LWA_PORT": str(steady_port()), **settings}
        environment.start(self._runtime, kind, artifact, handler, settings, function=function, beside=beside)
        return environment

    async def ready(self) -> None:
        """Wait until every environment that was begun waits for its first invocation, or serves it."""
        for environment in self._environments:
            await environment.ready()

    async def start(
        self,
        function: str,
        kind: Kind,
        artifact: Path,
        handler: str,
        settings: Mapping[str, str],
        *,
        timeout_s: float = 900,
        beside: Iterable[Path] = (),
    ) -> Environment:
        """Start one more environment of a function; returns when it waits for its first invocation."""
        begun = await self.begin(function, kind, artifact, handler, settings, timeout_s=timeout_s, beside=beside)
        await begun.ready()
        return begun

    async def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function with an event, as AWS's own services do; return its result."""
        url = f"http://{HOST}:{self._port}/2015-03-31/functions/{function}/invocations"
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=INVOKE_TIMEOUT_S) as client:
            answer = await client.post(url, json=event)
        answer.raise_for_status()
        return answer.json()

    def log(self) -> str:
        """Give what the emulator has printed."""
        return (self._directory / "emulator.log").read_text(encoding="utf-8")

    def _part(self) -> Part:
        """Lay a crate that names the functions, for that is what the emulator asks cargo for."""
        crate = self._directory / "crate"
        crate.mkdir()
        manifest = ['[package]\nname = "functions"\nversion = "0.0.0"\nedition = "2021"\n']
        manifest += [f'[[bin]]\nname = "{name}"\npath = "none.rs"\n' for name in self._functions]
        (crate / "Cargo.toml").write_text("".join(manifest), encoding="utf-8")
        (crate / "none.rs").touch()
        found = cargo()
        assert found is not None
        # Part has its own directory, so the emulator is told where the crate is.
        argv = [str(Path(sys.executable).with_name("cargo-lambda")), "lambda", "watch", "--only-lambda-apis"]
        argv += ["--ignore-changes", "--disable-cors", "--manifest-path", str(crate / "Cargo.toml")]
        argv += ["--invoke-address", HOST, "--invoke-port", str(self._port)]
        path = f"{Path(found).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return Part(
            "emulator",
            self._port,
            argv,
            environment={"PATH": path, "HOME": os.environ.get("HOME", "/")},
            log=self._directory / "emulator.log",
            ready=_listens,
        )


async def _listens(port: int) -> None:
    """Return when something listens: a request to a function that is not there would wait for it."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(0.02)
