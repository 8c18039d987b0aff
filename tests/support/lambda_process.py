"""A function as a process of its own, started cold and given function URL events one by one.

Unlike `lambda_events.deployed` this is the real cold start: logs, imports and module state are the function's own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.lambda_events import Answer, function_url_event, process_environment

ROOT = Path(__file__).parents[2]
_MARK = "ANSWER "
_RUNTIME = f"""
import importlib, json, sys
handler = importlib.import_module(sys.argv[1]).handler
for line in sys.stdin:
    answer = handler(json.loads(line), None)
    print("{_MARK}" + json.dumps([answer, sorted(sys.modules)]), flush=True)
"""


class LambdaProcess:
    """A running function. It says on stdout what it logs, and nothing on stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._logged: list[dict[str, Any]] = []
        self.modules: set[str] = set()
        """What was imported when the last answer was given."""

    @classmethod
    @contextlib.contextmanager
    def running(cls, module: str, settings: Mapping[str, str]) -> Iterator[LambdaProcess]:
        """Start a handler's module with these settings only."""
        process = subprocess.Popen(
            [sys.executable, "-c", _RUNTIME, module],
            cwd=ROOT,
            env=process_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield cls(process)
            out, errors = process.communicate(timeout=20)
            assert (out, errors, process.returncode) == ("", "", 0)
        finally:
            process.kill()
            process.communicate()

    def invoke(self, method: str, path: str, **request: Any) -> Answer:
        """Invoke it once and return its answer. The request is `function_url_event`'s."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(function_url_event(method, path, **request)) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(_MARK):
                answer, modules = json.loads(line.removeprefix(_MARK))
                self.modules = set(modules)
                return Answer.of(answer)
            self._logged.append(json.loads(line))
        raise AssertionError(f"the function has ended: {self._process.communicate()[1]}")

    def logged(self) -> list[dict[str, Any]]:
        """Return what it has logged up to its last answer."""
        return list(self._logged)
