"""Cold start of the drill function on Lambda."""

from __future__ import annotations

from shared.cold_start import cold_start

with cold_start():
    from functions.drill.app import Deps, Drill
    from shared.settings import Function
    from shared.start import start

    handler = Drill(Deps.of(start(Function.DRILL)))
