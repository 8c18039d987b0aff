"""How long each function takes to load from its artifact, beside its libraries alone; and a first request.

Each measurement is a process of its own that has nothing but the artifact, made for this machine, to load from.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.findings import Findings, Line
from bench.machine import describe
from bench.processes import Processes
from bench.report import spread, spread_numbers, table, yes
from infra.packaging import DEPLOYED, Target, build
from shared.settings import Function

_RUNS = 31
_MOST = 1.25
_LIBRARIES = {
    Function.WEBHOOK: "starlette, mangum, upstash_redis.asyncio, jwt",
    Function.REPLAY: "starlette, mangum, upstash_redis.asyncio, jwt",
    Function.STREAM: "starlette, uvicorn, upstash_redis.asyncio, jwt",
}
#: Whose ratio the project has promised.
_PROMISED = (Function.WEBHOOK, Function.STREAM)
# What run.sh has the server load.
_SERVER = {Function.STREAM: ", functions.stream.server"}
_LOAD = """
import sys, time
sys.path.insert(0, sys.argv[1])
began = time.perf_counter()
import {modules}
print("TOOK", 1e3 * (time.perf_counter() - began))
"""
_INVOKE = """
import json
events = [json.loads(text) for text in sys.argv[2:]]
for event in events:
    began = time.perf_counter()
    answer = functions.webhook.handler.handler(event, None)
    print("TOOK", 1e3 * (time.perf_counter() - began))
    assert answer["statusCode"] == 200, answer
"""
_OFF = {"TIDEMARK_PUSH_AUTH": "off"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--runs", type=int, default=_RUNS, metavar="N", help="fresh processes of each kind")
    parser.add_argument("--quick", action="store_true", help="3 processes of each kind; writes no results")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of one function, in ms; ``raw`` is a start without byte code, as the artifact has none."""

    ours: list[float] = field(default_factory=list)
    libraries: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long as its libraries it takes."""
        return median(self.ours) / median(self.libraries)


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    runs = 3 if args.quick else args.runs
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as scratch:
        trees = {kind: await asyncio.to_thread(_trees, Path(scratch), kind) for kind in ("raw", "compiled")}
        async with Processes.running(queues=True) as processes:
            settings = {**processes.product, **_OFF}
            seen, requests = await asyncio.to_thread(_measure, trees, settings, runs)
    _findings(seen, requests, runs, machine).publish(keep=not args.quick)


def _trees(scratch: Path, kind: str) -> dict[Function, Path]:
    trees = {function: scratch / kind / function.value for function in DEPLOYED}
    for function, tree in trees.items():
        build(function, tree, Target.HOST, bytecode=sys.executable if kind == "compiled" else None)
    return trees


def _measure(
    trees: Mapping[str, Mapping[Function, Path]], settings: Mapping[str, str], runs: int
) -> tuple[dict[Function, Seen], list[tuple[float, float]]]:
    """Take turns, so that whatever else the machine does falls on all of them. The first turn does not count."""
    seen = {function: Seen() for function in DEPLOYED}
    requests: list[tuple[float, float]] = []
    for turn in range(runs + 1):
        for function in DEPLOYED:
            modules = f"functions.{function.value}.handler{_SERVER.get(function, '')}"
            tree = trees["compiled"][function]
            took = [_ms(tree, modules, settings)[0]]
            took.append(_ms(tree, _LIBRARIES[function], settings)[0] if function in _LIBRARIES else float("nan"))
            took.append(_ms(trees["raw"][function], modules, settings)[0])
            if turn:
                of = seen[function]
                for measured, value in zip((of.ours, of.libraries, of.raw), took, strict=True):
                    measured.append(value)
        events = [_push(turn, number) for number in range(2)]
        _, first, second = _ms(trees["compiled"][Function.WEBHOOK], "functions.webhook.handler", settings, *events)
        if turn:
            requests.append((first, second))
    return seen, requests


def _ms(tree: Path, modules: str, settings: Mapping[str, str], *events: str) -> list[float]:
    """Load modules in a fresh process, and have the webhook take events; return how long each took."""
    code = _LOAD.format(modules=modules) + (_INVOKE if events else "")
    argv = [sys.executable, "-I", "-S", "-B", "-c", code, str(tree), *events]
    told = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=True).stdout
    return [float(line.split()[1]) for line in told.splitlines() if line.startswith("TOOK")]


def _push(turn: int, number: int) -> str:
    data = base64.b64encode(b'{"emailAddress":"cold@example.com","historyId":7}').decode()
    message = {"data": data, "messageId": f"cold-{turn}-{number}"}
    http = {"method": "POST", "path": "/push", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "b"}
    return json.dumps(
        {
            "version": "2.0",
            "rawPath": "/push",
            "rawQueryString": "",
            "headers": {"host": "x.on.aws", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
            "requestContext": {"http": http, "domainName": "x.on.aws", "stage": "$default", "requestId": "1"},
            "body": json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}),
            "isBase64Encoded": False,
        }
    )


def _findings(
    seen: Mapping[Function, Seen], requests: list[tuple[float, float]], runs: int, machine: Mapping[str, str]
) -> Findings:
    rows, lines = [], []
    for function, of in seen.items():
        known, promised = function in _LIBRARIES, function in _PROMISED
        met = yes(of.ratio <= _MOST) if promised else ""
        libraries = spread(of.libraries, ".0f") if known else "-"
        ratio = f"{of.ratio:.2f}" if known else "-"
        rows.append([function.value, spread(of.ours, ".0f"), libraries, ratio, met, spread(of.raw, ".0f")])
        if promised:
            values = {"ours": median(of.ours), "floor": median(of.libraries)}
            target = f"at most {_MOST:g} x the floor"
            lines.append(Line(f"{function.value}: load, ms", values, 0, target, met=of.ratio <= _MOST))
    first, second = ([one[part] for one in requests] for part in (0, 1))
    told = (
        f"The webhook's first push takes {spread(first, '.1f')} ms, its second {spread(second, '.1f')} ms: the first "
        "opens the connection to Redis and reads the scripts. It loads no library any more."
    )
    head = ("function", "load, ms", "its libraries, ms", "ratio", f"at most {_MOST:g}?", "without byte code, ms")
    return Findings(
        name="coldstart",
        title="Cold start",
        how=(
            f"{runs} fresh processes of each kind, in turns, that see nothing but the artifact for this machine with "
            "its byte code: ms until the handler is ready for events (the stream's with the server's protocol), "
            "beside loading its libraries alone: "
            + "; ".join(dict.fromkeys(_LIBRARIES.values()))
            + ". Without byte code "
            "Python compiles what it loads. Median (and range)."
        ),
        machine=machine,
        text=[
            *table(head, rows),
            "",
            told,
        ],
        lines=lines,
        numbers={
            **{
                function.value: {
                    "load_ms": spread_numbers(of.ours),
                    "without_byte_code_ms": spread_numbers(of.raw),
                    **({"libraries_ms": spread_numbers(of.libraries)} if function in _LIBRARIES else {}),
                }
                for function, of in seen.items()
            },
            "first_push_ms": spread_numbers(first),
            "second_push_ms": spread_numbers(second),
        },
    )
