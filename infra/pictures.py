"""An SVG document as a PNG picture, drawn by a Chromium that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRAWN_WITHIN_S = 60


class NoPictureError(Exception):
    """There is no Chromium to draw with, or it did not draw."""


def draw_png(svg: str, picture: Path, *, width: int, height: int) -> None:
    """Draw it. Raises NoPictureError."""
    browser = next((path for path in map(shutil.which, _BROWSERS) if path is not None), None)
    if browser is None:
        raise NoPictureError(
            "a PNG is drawn by Chromium, and none is installed (Debian: apt-get install chromium); "
            "a file name that ends in .svg needs none"
        )
    with tempfile.TemporaryDirectory(prefix="tidemark-picture-") as scratch:
        document = Path(scratch) / "picture.svg"
        document.write_text(svg, encoding="utf-8")
        argv = [browser, "--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={scratch}/profile"]
        if os.geteuid() == 0:
            # Chromium's own sandbox refuses to run as root; what is drawn here is ours.
            argv.append("--no-sandbox")
        argv += [f"--window-size={width},{height}", f"--screenshot={picture.resolve()}", document.as_uri()]
        try:
            subprocess.run(argv, capture_output=True, timeout=_DRAWN_WITHIN_S, check=True)
        except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NoPictureError(f"{Path(browser).name} did not draw: {type(error).__name__}") from None
    if not picture.is_file():
        raise NoPictureError(f"{Path(browser).name} wrote no picture to {picture}")
