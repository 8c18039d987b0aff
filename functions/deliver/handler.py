"""Cold start of the deliver function on Lambda."""

from __future__ import annotations

from shared.cold_start import cold_start

with cold_start():
    from functions.deliver.app import Deliver, Deps
    from shared.settings import Function
    from shared.start import start

    handler = Deliver(Deps.of(start(Function.DELIVER)))
