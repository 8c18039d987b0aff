"""Cold start of the deliver function on Lambda."""

from __future__ import annotations

import gc

# All that is imported stays: looking for what does not would take a tenth of the cold start.
gc.disable()

from functions.deliver.app import Deliver, Deps
from shared.settings import Function
from shared.start import start

handler = Deliver(Deps.of(start(Function.DELIVER)))

# Nor is it looked through later, in a request.
gc.freeze()
gc.enable()
