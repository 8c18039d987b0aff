"""Cold start of the replay function on Lambda."""

from __future__ import annotations

import gc

# All that is imported stays: looking for what does not would take a tenth of the cold start.
gc.disable()

from functions.replay.app import Deps, build_app
from shared.lambda_handler import lambda_handler
from shared.settings import Function
from shared.start import start

handler = lambda_handler(build_app(Deps.of(start(Function.REPLAY))))

# Nor is it looked through later, in a request.
gc.freeze()
gc.enable()
