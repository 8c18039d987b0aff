"""Cold start of the replay function on Lambda."""

from __future__ import annotations

from shared.cold_start import cold_start

with cold_start():
    from functions.replay.app import Deps, build_app
    from shared.lambda_handler import lambda_handler
    from shared.settings import Function
    from shared.start import start

    handler = lambda_handler(build_app(Deps.of(start(Function.REPLAY))))
