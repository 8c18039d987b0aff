"""The `tidemark` command inside of the test's process: it spares the second that importing everything takes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from infra.cli import main
from tests.support.faulty_gateway import cheap_tls
from tests.support.lambda_events import process_environment


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, Any]]:
        """Return what it printed: one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs the command with these settings only, and nothing of the environment that the tests run in."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, settings: Mapping[str, str] | None = None) -> Ran:
        environ = process_environment({"AWS_EC2_METADATA_DISABLED": "true", **(settings or {})})
        with mock.patch.dict(os.environ, environ, clear=True), cheap_tls():
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as stopped:
                code = int(str(stopped.code))
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)
