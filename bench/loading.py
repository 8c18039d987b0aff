"""What it costs a cold process to send its first message to a queue: boto3 beside the signer that we use."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench.machine import describe
from bench.processes import ROOT, Processes
from bench.report import spread, table

RESULTS = Path(__file__).parent / "results"
_RUNS = 15
# What the webhook has loaded before it needs a queue: neither way pays for that.
_BEFORE = """
import json, sys, time, asyncio, os, functions.webhook.app
from shared.settings import AwsAccess
from shared.sqs import Sqs, _load_signer
names = ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
access = AwsAccess(*(os.environ[name] for name in names), None)
url, body = os.environ["TIDEMARK_QUEUE_URL"], "{}"
began = time.perf_counter()
"""
_AFTER = """
print(json.dumps([1e3 * (loaded - began), 1e3 * (time.perf_counter() - began)]))
"""
_WAYS = {
    "boto3": """
import boto3
from botocore.config import Config
client = boto3.client(
    "sqs", endpoint_url=url.rsplit("/", 2)[0], region_name=access.region, aws_access_key_id=access.key_id,
    aws_secret_access_key=access.secret, config=Config(retries={"total_max_attempts": 1}),
)
loaded = time.perf_counter()
client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId=str(time.time_ns()))
""",
    "botocore's client": """
import botocore.session
client = botocore.session.Session().create_client(
    "sqs", endpoint_url=url.rsplit("/", 2)[0], region_name=access.region, aws_access_key_id=access.key_id,
    aws_secret_access_key=access.secret,
)
loaded = time.perf_counter()
client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId=str(time.time_ns()))
""",
    "botocore's signer, our transport": """
_load_signer(access)
loaded = time.perf_counter()
async def send():
    queue = Sqs(url, access)
    await queue.send(body, group="g", dedupe_id=str(time.time_ns()))
    await queue.close()
asyncio.run(send())
""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--runs", type=int, default=_RUNS, metavar="N", help="fresh processes of each kind")
    parser.add_argument("--quick", action="store_true", help="3 processes of each kind; writes no results")


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    if args.quick:
        args.runs = 3
    machine = describe()
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
    async with Processes.running(queues=True) as processes:
        for way in _WAYS:  # files that nobody has read yet are another matter
            await asyncio.to_thread(_measure, way, processes.product)
        for _ in range(args.runs):
            for way, measured in seen.items():
                measured.append(await asyncio.to_thread(_measure, way, processes.product))
    text = _markdown(seen, machine)
    print(f"\n{text}")
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "loading.md").write_text(text, encoding="utf-8")


def _measure(way: str, settings: Mapping[str, str]) -> tuple[float, float]:
    """Return how long a fresh process took until it was loaded, and until its message was sent, in ms."""
    environment = {**os.environ, **settings}
    argv = [sys.executable, "-c", _BEFORE + _WAYS[way] + _AFTER]
    told = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    loaded_ms, sent_ms = json.loads(told.splitlines()[-1])
    return loaded_ms, sent_ms


def _markdown(seen: Mapping[str, list[tuple[float, float]]], machine: dict[str, str]) -> str:
    rows = []
    for way, measured in seen.items():
        loaded, sent = ([one[part] for one in measured] for part in (0, 1))
        rows.append([way, spread(loaded, ".0f"), spread(sent, ".0f")])
    ours = median(sent for _, sent in seen["botocore's signer, our transport"])
    ratio = median(sent for _, sent in seen["boto3"]) / ours
    how = (
        f"{len(next(iter(seen.values())))} fresh processes of each kind, in turns, that have loaded the webhook but "
        "nothing of AWS yet; ms from there until what sends is loaded, and until the first message was answered "
        "by the queue server of the local stack. Median (and range)."
    )
    verdict = f"Until the first message is sent boto3 takes {ratio:.1f} times as long as what we use."
    about = [f"- {name}: {text}" for name, text in machine.items()]
    lines = ["# The first message to a queue", "", how, "", *table(("way", "loaded, ms", "sent, ms"), rows), ""]
    return "\n".join([*lines, verdict, "", *about, ""])
