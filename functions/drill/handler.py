"""Cold start of the drill function on Lambda."""

from __future__ import annotations

import gc

# All that is imported stays: looking for what does not would take a tenth of the cold start.
gc.disable()

from functions.drill.app import Deps, Drill
from shared.settings import Function
from shared.start import start

handler = Drill(Deps.of(start(Function.DRILL)))

# Nor is it looked through later, in a request.
gc.freeze()
gc.enable()
