"""What a measurement has found: text for people, numbers for programs, lines and panels for the report of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.report import listed

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report's table: a value of each subject, by its name, and the target for ours."""

    what: str
    values: Mapping[str, float]
    #: How many decimal places are meant.
    places: int = 2
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of the plot: groups of bars by their label; a bar is a value and maybe a further one, by subject."""

    title: str
    groups: Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Findings:
    """All of one measurement."""

    name: str
    title: str
    how: str
    machine: Mapping[str, str]
    #: Tables in Markdown, and what there is to say about them.
    text: Sequence[str]
    lines: Sequence[Line] = ()
    panels: Sequence[Panel] = ()
    #: What was left out, and why; what peers have lost.
    notes: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Write it for people."""
        notes = ["", *listed(self.notes)] if self.notes else []
        return "\n".join([f"# {self.title}", "", self.how, "", *self.text, *notes, "", *listed(self.machine), ""])

    def publish(self, *, keep: bool) -> None:
        """Print it, and write it to `RESULTS` if it is to be kept."""
        text = self.markdown()
        print(f"\n{text}", flush=True)
        if keep:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{self.name}.md").write_text(text, encoding="utf-8")
            (RESULTS / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            print(f"written to {RESULTS}/{self.name}.md and {self.name}.json", flush=True)

    @classmethod
    def load(cls, name: str) -> Findings | None:
        """Read what was kept of a measurement, if anything was."""
        file = RESULTS / f"{name}.json"
        if not file.is_file():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        kept["lines"] = [Line(**line) for line in kept["lines"]]
        kept["panels"] = [Panel(**panel) for panel in kept["panels"]]
        return cls(**kept)
