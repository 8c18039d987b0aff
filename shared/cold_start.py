"""What a cold start is spared.

    with cold_start():
        from functions.webhook.app import …
        handler = …

All that every request needs is loaded in there: on Lambda that is when a function has the most CPU.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def cold_start() -> Iterator[None]:
    """Load modules inside of this.

    The garbage collector rests: all that is loaded stays, and looking for what does not takes a tenth of the time.
    Nor is it looked through later: that would hold up a thousand streams each time.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
