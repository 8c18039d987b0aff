"""Cold start of the stream function: an ASGI application for uvicorn (see run.sh)."""

from __future__ import annotations

import gc

from functions.stream.app import REQUEST_CONNECTIONS, Deps, build_app
from shared.settings import Function
from shared.start import start

app = build_app(Deps.of(start(Function.STREAM, max_connections=REQUEST_CONNECTIONS)))

# What was imported stays. Looked through again and again, it would hold up a thousand streams for some 50 ms each time.
gc.freeze()
