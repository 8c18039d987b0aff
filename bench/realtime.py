"""Upstash Realtime as a subject: its emit behind one Node process, its streams in another, on the same gateway."""

from __future__ import annotations

import shutil
from functools import partial
from typing import ClassVar
from urllib.parse import quote

from bench.append import mailbox as address
from bench.append import push_json
from bench.processes import ROOT, Processes
from bench.raw_http import EventStream, request
from bench.subject import Server
from infra.local.stack import answers, free_port

_PACKAGE = ROOT / "node_modules" / "@upstash" / "realtime"


class Realtime(Server):
    """Realtime's own handler and emit. It authenticates nobody here, and limits nobody."""

    name: ClassVar[str] = "Upstash Realtime"
    server: ClassVar[str | None] = "realtime"
    strict: ClassVar[bool] = False

    @staticmethod
    def missing() -> str | None:
        """Return what this machine lacks for it, if anything."""
        if shutil.which("node") is None:
            return "node"
        return None if _PACKAGE.is_dir() else "its package (npm ci)"

    @classmethod
    async def start(cls, processes: Processes, *, kept: int = 1000) -> Realtime:
        """Start its processes; its log keeps so many events of a mailbox. Raises ChildError."""
        ports = {"realtime-push": free_port(), "realtime": free_port()}
        node = shutil.which("node")
        assert node is not None
        for name, port in ports.items():
            argv = [node, str(ROOT / "bench" / "peers" / "realtime.mjs"), str(port), str(kept)]
            env = {
                "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{processes.ports.gateway}",
                "UPSTASH_REDIS_REST_TOKEN": processes.gateway_token,
                "UPSTASH_DISABLE_TELEMETRY": "1",
            }
            url = f"http://127.0.0.1:{port}/healthz"
            await processes.start_child(name, argv, env, partial(answers, url), guest=True)
        return cls(*ports.values())

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build one push."""
        return request("POST", "/push", self._push_port, {}, push_json(mailbox, message_id))

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        return None if status == 200 else f"a push was answered with {status} {body[:200]!r}"

    def stream_request(self, _stream: int, mailbox: int, last_ack: str | None = None) -> bytes:
        """Build the request that opens a stream, after an id of its log."""
        channel = quote(f"gmail:{address(mailbox)}", safe="")
        after = "" if last_ack is None else f"&last_ack_{channel}={last_ack}"
        return request("GET", f"/?channel={channel}{after}", self.stream_port, {"Accept": "text/event-stream"})

    def take(self, number: int, stream: EventStream, frame: bytes) -> None:
        """Take a frame."""
        if b'"type":"connected"' in frame:
            self._greeted(stream)
        elif b'"type":"ping"' not in frame:
            self._arrived(frame, number)
