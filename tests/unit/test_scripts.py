"""The Lua scripts as they are sent."""

from __future__ import annotations

from importlib import resources

import pytest

from shared.scripts import script

NAMES = sorted(
    file.name.removesuffix(".lua")
    for file in (resources.files("shared") / "lua").iterdir()
    if file.name.endswith(".lua") and file.name != "clock.lua"
)


def test_the_scripts_are_found_in_the_package() -> None:
    """They are package data: an installation without them would fail at the first push."""
    assert {"ack", "append", "fence", "park", "read"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_sent_whole_and_without_its_comments(name: str) -> None:
    """Each call sends its text, so comments and blank lines stay at home and includes are resolved."""
    lines = script(name).splitlines()
    assert lines
    assert not [line for line in lines if line.strip() == "" or line.lstrip().startswith("--")]
    assert "@include" not in script(name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_comments_and_blank_lines_is_dropped(name: str) -> None:
    """Every line of code of the file stands in what is sent, in its order."""
    text = (resources.files("shared") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    sent = script(name).splitlines()
    assert sent[-len(code) :] == code


def test_an_included_file_stands_before_what_uses_it() -> None:
    """Lua's local functions must be defined before they are called."""
    sent = script("append")
    assert sent.count("local function parse(text)") == 1
    assert sent.index("local function parse(text)") < sent.index("parse(held[")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_read_once_a_process(name: str) -> None:
    """The same text comes back, not a copy read from disk again."""
    assert script(name) is script(name)
