"""What verifies the servers that we speak to: the certificates of the authorities, read once a process.

Reading them takes 0.02 s, most of it in C. It is done in a thread that begins when the first transport is built, at
the end of a cold start: by the time that a first request has come and wants to connect, much of it is over.
"""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import Future
from functools import cache

import httpx


@cache
def tls_context() -> Future[ssl.SSLContext]:
    """Begin to read them, or say how far that is."""
    reading: Future[ssl.SSLContext] = Future()
    # Whoever gives up waiting for it must not end it for the others.
    reading.set_running_or_notify_cancel()
    # No daemon: a process that ends at once (a setting is missing) would take OpenSSL away under it, and crash.
    threading.Thread(target=_read, args=(reading,), name="tls").start()
    return reading


def _read(reading: Future[ssl.SSLContext]) -> None:
    try:
        reading.set_result(httpx.create_ssl_context())
    except Exception as error:  # noqa: BLE001 - whoever waits for it is told, whatever it is
        reading.set_exception(error)
