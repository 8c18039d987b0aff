"""What Sentry's server is to its clients: takes envelopes over HTTP and keeps the events in them."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SentryServer:
    """``events`` are what came, as JSON; ``raw`` all bytes of it, unpacked."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw = b""
        self.open = threading.Event()
        """While it is not set, requests are read and not answered."""
        self.open.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/1"

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[SentryServer]:
        """Serve on any port."""
        server = cls()
        thread = threading.Thread(target=server._server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.open.set()
            server._server.shutdown()
            thread.join()
            server._server.server_close()

    def _take(self, body: bytes) -> None:
        # An envelope: a line of its own, then for each item a line about it and its content on another.
        self.raw += body
        lines = body.splitlines()[1:]
        for about, content in zip(lines[::2], lines[1::2], strict=False):
            if json.loads(about).get("type") == "event":
                self.events.append(json.loads(content))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                sentry.open.wait(20)
                sentry._take(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                with contextlib.suppress(OSError):  # its client may have ended meanwhile
                    self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler
