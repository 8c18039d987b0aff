"""Cold start of the stream function: an ASGI application for uvicorn (see run.sh)."""

from __future__ import annotations

import gc

# All that is imported stays: looking for what does not would take a tenth of the cold start.
gc.disable()

from functions.stream.app import REQUEST_CONNECTIONS, Deps, build_app
from shared.settings import Function
from shared.start import start

app = build_app(Deps.of(start(Function.STREAM, max_connections=REQUEST_CONNECTIONS)))

# Nor is it looked through later, when that would hold up a thousand streams each time.
gc.freeze()
gc.enable()
