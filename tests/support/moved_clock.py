"""A handler beside an artifact, whose process lives as much later as a file says, in seconds.

The clocks of `time` are shifted before anything of the function is imported; the function itself knows nothing of it.
"""

from __future__ import annotations

from pathlib import Path

FILE = "clock_offset_s"

_MODULE = f"""
import pathlib, time

_file = pathlib.Path(__file__).with_name("{FILE}")

def _later(clock):
    return lambda: clock() + float(_file.read_text())

time.monotonic, time.time = _later(time.monotonic), _later(time.time)

from {{module}} import handler
"""


class MovedClock:
    """Gives a function's handler a clock that a test moves. ``handler`` is the name to start it by."""

    handler = "moved_clock_handler.handler"

    def __init__(self, directory: Path, handler: str) -> None:
        directory.mkdir()
        self.directory = directory
        """Where the handler's module is: an environment needs it beside the artifact."""
        module = _MODULE.format(module=handler.rpartition(".")[0])
        (directory / "moved_clock_handler.py").write_text(module, encoding="utf-8")
        self.move_to(0)

    def move_to(self, offset_s: float) -> None:
        """Have it be so much later than it is."""
        (self.directory / FILE).write_text(str(offset_s), encoding="utf-8")
