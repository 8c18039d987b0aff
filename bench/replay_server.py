"""The replay function as an ASGI application for uvicorn: its own cold start (handler.py) is for Lambda."""

from __future__ import annotations

from functions.replay.app import Deps, build_app
from shared.settings import Function
from shared.start import start

app = build_app(Deps.of(start(Function.REPLAY)))
