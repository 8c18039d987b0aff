"""`tidemark cost --plot` with a real Chromium."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from infra.cli import main
from infra.cost.plot import HEIGHT, WIDTH
from infra.pictures import NoPictureError, draw_png
from tests.support.browser import find_browser
from tests.support.require import require


def test_the_plot_is_a_png_of_some_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As wide and as high as it was drawn, and not blank; the tables are printed all the same."""
    require(find_browser() is not None, "Chromium")
    file = tmp_path / "cost.png"
    assert main(["cost", "--short", "--plot", str(file)]) == 0
    picture = file.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (WIDTH, HEIGHT)
    assert len(picture) > 10_000
    assert "Recommended" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    """Chromium itself is silent about it."""
    require(find_browser() is not None, "Chromium")
    with pytest.raises(NoPictureError, match="no picture"):
        draw_png("<svg xmlns='http://www.w3.org/2000/svg'/>", tmp_path / "absent" / "x.png", width=10, height=10)
