"""What README and docs/deploy.md say about a deployment is what is deployed, and their commands are commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "SECURITY.md", "docs/deploy.md", "docs/scaling.md")
DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what stands below a heading of docs/deploy.md."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", DEPLOY, re.MULTILINE | re.DOTALL)
    return str(text)


def headings(text: str) -> set[str]:
    """Return the anchors that a page's headings have."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_option_of_a_stage_is_described_and_no_other() -> None:
    """By its name, those of managed instances apart."""
    options = re.findall(r"^  ([a-z_]+):", (ROOT / "infra/deployment/stages.yml").read_text(), re.MULTILINE)
    told = {name for row in re.findall(r"^\| (`.*?) \|", section("Options"), re.MULTILINE) for name in names(row)}
    assert told - {"managed_"} == {name for name in options if not name.startswith("managed_")}
    instances = re.findall(r"^  (managed_[a-z]+):", section("Many streams in one process"), re.MULTILINE)
    assert set(instances) <= set(options)


def names(row: str) -> list[str]:
    """Return the options that a row of the table begins with; in brackets stand values."""
    return re.findall(r"`([a-z_]+)", re.sub(r"\([^)]*\)", "", row))


def test_every_alarm_is_described_and_no_other() -> None:
    """With what to do about it."""
    made = re.findall(r"^  - name: (\w+)$", (ROOT / "infra/deployment/alarms.yml").read_text(), re.MULTILINE)
    told = [
        name for row in re.findall(r"^\| (`\w+`.*?) \|", section("Alarms"), re.MULTILINE) for name in row.split(", ")
    ]
    assert sorted(told) == sorted(f"`{name}`" for name in made)


def test_functions_are_described_as_they_are_deployed() -> None:
    """Their time and memory."""
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (\d+) s, (\d+) MB \|", section("What is deployed"), re.MULTILINE)
    stages = (ROOT / "infra/deployment/stages.yml").read_text()
    assert len(rows) == 5
    for name, time_s, memory in rows:
        function = (ROOT / f"infra/deployment/functions/{name}.yml").read_text()
        assert f"\ntimeout: {time_s}" in function
        assert f"\n  {name}_mb: {memory}" in stages


@pytest.mark.parametrize("page", PAGES)
def test_shell_commands_can_be_read_by_a_shell(page: str) -> None:
    """Each block of them."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        # Where something is to be filled in.
        filled = re.sub(r"[\[\]|…]", "", block) if "[" in block else block
        read = subprocess.run(["bash", "-n"], input=filled, text=True, capture_output=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), block


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_pages_lead_somewhere(page: str) -> None:
    """To a file that is there, and a heading in it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in headings(file.read_text(encoding="utf-8")), target
