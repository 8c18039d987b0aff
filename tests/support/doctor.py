"""What `tidemark doctor` has said, taken apart."""

from __future__ import annotations

from tests.support.command import Ran


def findings(ran: Ran) -> dict[str, tuple[str, str]]:
    """Return level and advice by what was found."""
    found: dict[str, tuple[str, str]] = {}
    what = ""
    for line in ran.out.splitlines():
        if line.startswith(" "):
            found[what] = (found[what][0], line.strip().removeprefix("-> "))
        else:
            level, _, rest = line.partition(" ")
            what = rest.strip()
            found[what] = (level, "")
    assert ran.err == ""
    return found


def one(ran: Ran, name: str) -> tuple[str, str, str]:
    """Return level, words and advice of the one finding about a thing that is not well."""
    (told,) = [
        (level, what, fix)
        for what, (level, fix) in findings(ran).items()
        if what.startswith(f"{name}: ") and level != "ok"
    ]
    return told
