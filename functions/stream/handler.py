"""Cold start of the stream function: an ASGI application for uvicorn (see run.sh)."""

from __future__ import annotations

from shared.cold_start import cold_start

with cold_start():
    from functions.stream.app import REQUEST_CONNECTIONS, Deps, build_app
    from shared.settings import Function
    from shared.start import start

    app = build_app(Deps.of(start(Function.STREAM, max_connections=REQUEST_CONNECTIONS)))
