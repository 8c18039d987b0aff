"""Cold start of the deliver function on Lambda."""

from __future__ import annotations

from functions.deliver.app import Deliver, Deps
from shared.settings import Function
from shared.start import start

handler = Deliver(Deps.of(start(Function.DELIVER)))
