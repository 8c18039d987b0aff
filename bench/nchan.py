"""Nchan as a subject: nginx with Debian's module, one instance for pushes and one for streams, on the same Redis."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import ClassVar

from bench.append import push_json
from bench.processes import Processes
from bench.raw_http import EventStream, request
from bench.subject import Server
from infra.local.stack import answers, free_port

_PACKAGE = "libnginx-mod-nchan"
_MODULE = "ngx_nchan_module.so"
_CONFIGURATION = """\
load_module {module};
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream log {{ nchan_redis_server redis://127.0.0.1:{redis}; }}
  nchan_message_timeout 1d;
  nchan_message_buffer_length {kept};
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    keepalive_timeout 600s;
    client_header_timeout 600s;
    keepalive_requests 1000000;
    location = /healthz {{ return 200; }}
    location = /push {{ nchan_publisher; nchan_channel_id $arg_to; nchan_redis_pass log; }}
    location = /events {{ nchan_subscriber eventsource; nchan_channel_id $arg_of; nchan_redis_pass log; }}
  }}
}}
"""


class Nchan(Server):
    """Nchan's publisher and its EventSource subscriber. It speaks to Redis itself, not through the gateway."""

    name: ClassVar[str] = "Nchan"
    server: ClassVar[str | None] = "nchan"
    strict: ClassVar[bool] = False
    #: A stream begins with the oldest event that is held (of those that are set to begin with the next, the first few
    #: get lost when they come at once): so each opening has channels of its own, which hold none.
    _openings = 0

    @staticmethod
    def missing() -> str | None:
        """Return what this machine lacks for it, if anything."""
        if shutil.which("nginx") is None:
            return f"nginx (Debian: nginx-light, {_PACKAGE})"
        return None if _module().is_file() else f"Debian's {_PACKAGE}"

    @classmethod
    async def start(cls, processes: Processes, *, kept: int = 1000) -> Nchan:
        """Start its processes; its log keeps so many events of a mailbox. Raises ChildError."""
        ports = {"nchan-push": free_port(), "nchan": free_port()}
        nginx = shutil.which("nginx")
        assert nginx is not None
        for name, port in ports.items():
            directory = processes.directory / name
            directory.mkdir()
            file = directory / "nginx.conf"
            file.write_text(
                _CONFIGURATION.format(
                    module=_module(),
                    user=getpass.getuser(),
                    directory=directory,
                    redis=processes.ports.redis,
                    kept=kept,
                    port=port,
                ),
                encoding="utf-8",
            )
            url = f"http://127.0.0.1:{port}/healthz"
            argv = [nginx, "-p", str(directory), "-c", str(file), "-e", "stderr"]
            await processes.start_child(name, argv, {}, partial(answers, url), guest=True)
        return cls(*ports.values())

    async def open_pushes(self) -> None:
        """Open the push connections, and turn to channels that nobody has used."""
        self._openings += 1
        await super().open_pushes()

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build one push: the body is the event."""
        return request("POST", f"/push?to={self._channel(mailbox)}", self._push_port, {}, _event(mailbox, message_id))

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        # 202: nobody listens at this instance.
        return None if status in (201, 202) else f"a push was answered with {status} {body[:200]!r}"

    def stream_request(self, _stream: int, mailbox: int) -> bytes:
        """Build the request that opens a stream."""
        path = f"/events?of={self._channel(mailbox)}"
        return request("GET", path, self.stream_port, {"Accept": "text/event-stream"})

    def take(self, number: int, stream: EventStream, frame: bytes) -> None:
        """Take a frame. The first is a comment."""
        if frame.startswith(b":"):
            self._greeted(stream)
        else:
            self._arrived(frame, number)

    def _channel(self, mailbox: int) -> str:
        return f"{self._openings}-{mailbox}"


def _event(mailbox: int, message_id: int) -> bytes:
    # On one line, and with the message's id where the ledger looks for it.
    return push_json(mailbox, message_id).replace(b'"messageId": ', b'"id":')


def _module() -> Path:
    told = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--modules-path=(\S+)", told)
    return Path(found[1] if found else "/usr/lib/nginx/modules") / _MODULE
