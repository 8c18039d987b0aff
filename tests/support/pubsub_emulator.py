"""Google's own Pub/Sub emulator (Java, part of the Cloud SDK), over its REST interface.

    with PubsubEmulator.running(directory) as pubsub:
        pubsub.subscribe(f"{dev.url}/push")
        pubsub.publish([...])

It pushes for real, but without a token, and resends what is answered with 202.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.loopback import HOST, steady_port
from tests.support.gateway import NO_TLS, end, eventually

JAR_VARIABLE = "TIDEMARK_PUBSUB_EMULATOR_JAR"
_SDK_FOLDERS = ("/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "~/google-cloud-sdk")
_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"
_START_TIMEOUT_S = 30.0
_PROJECT = "projects/tidemark-e2e"
TOPIC = f"{_PROJECT}/topics/gmail"
SUBSCRIPTION = f"{_PROJECT}/subscriptions/webhook"


def find_jar() -> Path | None:
    """Find the emulator: the one that TIDEMARK_PUBSUB_EMULATOR_JAR names, else the newest in a usual SDK folder."""
    named = os.environ.get(JAR_VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    for folder in (os.environ.get("CLOUDSDK_ROOT_DIR"), *_SDK_FOLDERS):
        found = sorted(Path(folder).expanduser().glob(_JAR)) if folder else []
        if found:
            return found[-1]
    return None


class PubsubEmulator:
    """A running emulator with one topic."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path) -> Iterator[PubsubEmulator]:
        """Start it, and stop it for sure. Skips the running test where it or Java is not installed."""
        java, jar = shutil.which("java"), find_jar()
        if java is None or jar is None:
            # Not a part of any image that must be complete: plainly skipped, even in a run that allows no skips.
            pytest.skip("Google's Pub/Sub emulator is not installed" if java else "Java is not installed")
        port = steady_port()
        with (directory / "emulator.log").open("wb") as log:
            process = subprocess.Popen(
                [java, "-jar", jar, f"--host={HOST}", f"--port={port}"], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=10, verify=NO_TLS, trust_env=False) as client:
                emulator = cls(client)
                eventually(emulator._has_topic, "the emulator serves", _START_TIMEOUT_S)
                yield emulator
        finally:
            end(process)

    def subscribe(self, push_endpoint: str) -> None:
        """Push every message from now on to an address."""
        body = {"topic": TOPIC, "pushConfig": {"pushEndpoint": push_endpoint}, "ackDeadlineSeconds": 10}
        self._client.put(f"/v1/{SUBSCRIPTION}", json=body).raise_for_status()

    def publish(self, contents: Sequence[Any]) -> list[str]:
        """Publish JSON contents as Gmail does; return their message ids."""
        messages = [{"data": base64.b64encode(json.dumps(content).encode()).decode()} for content in contents]
        answer = self._client.post(f"/v1/{TOPIC}:publish", json={"messages": messages}).raise_for_status()
        ids: list[str] = answer.json()["messageIds"]
        return ids

    def _has_topic(self) -> bool:
        try:
            return self._client.put(f"/v1/{TOPIC}").status_code in (httpx.codes.OK, httpx.codes.CONFLICT)
        except httpx.TransportError:
            return False
