"""`osls` as a team runs it: without a network, or with a moto server in AWS's place.

    Osls(directory, environ={"AWS_ENDPOINT_URL": moto.url}).done("deploy", "--stage", "dev")

The artifacts are empty: what is in the real ones is tested where they are made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from infra.deployment.environments import SECRETS
from shared.settings import Function
from tests.support.gateway import ROOT
from tests.support.require import require

OSLS = ROOT / "node_modules/.bin/osls"
TIMEOUT_S = 60.0
LEAST_NODE = (20, 19)
#: Nobody listens there: a request to it fails at once.
NOWHERE = "http://127.0.0.1:9"
PUSH_ACCOUNT = "push@project.iam.gserviceaccount.com"
#: What a secret of a stage may look like; none of it may be seen anywhere.
SECRET = {
    "UPSTASH_REDIS_REST_URL": "https://secret-name.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "secret-token",
    "TIDEMARK_TOKEN_KEYS": f"k1:{'secret-key' * 4}",
    "SENTRY_DSN": "https://secret@sentry.example.com/1",
    "TIDEMARK_BYPASS_SECRET": "secret-bypass" * 3,
}
assert set(SECRETS) < SECRET.keys()


@cache
def _node() -> tuple[int, ...]:
    """Return the version of node, or nothing where there is none."""
    if shutil.which("node") is None:
        return ()
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    return tuple(int(part) for part in told.strip().removeprefix("v").split("."))


class Osls:
    """One copy of the project. Without `environ` there are no credentials, and no way to the internet."""

    def __init__(self, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        require(_node() >= LEAST_NODE and OSLS.exists(), "node 20.19 or newer, and what npm ci installs")
        # osls packages in the project's directory, and one run would clear away what another has made there.
        self.project = directory / "project"
        self.project.mkdir(parents=True)
        shutil.copy(ROOT / "serverless.yml", self.project)
        shutil.copytree(ROOT / "infra/deployment", self.project / "infra/deployment")
        for name in ("package.json", "node_modules", ".venv"):
            (self.project / name).symlink_to(ROOT / name)
        self.artifacts = directory / "artifacts"
        self.artifacts.mkdir()
        for function in Function:
            self.build(function.value, "first")
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "SLS_AWS_MONITORING_FREQUENCY": "100",
            "AWS_EC2_METADATA_DISABLED": "true",
            **(environ or dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)),
        }

    def build(self, function: str, content: str) -> None:
        """Make a function's artifact anew."""
        with zipfile.ZipFile(self.artifacts / f"{function}.zip", "w") as artifact:
            artifact.writestr("content.txt", content)

    def run(self, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command; `options` are ``name=value`` of stages.yml. Its exit code is the caller's to look at."""
        given = [f"artifacts_in={self.artifacts}", "artifacts=prebuilt", *options]
        return subprocess.run(
            [OSLS, *arguments, *(f"--param={option}" for option in given)],
            cwd=self.project,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def done(self, *arguments: str, options: Sequence[str] = ()) -> str:
        """Run a command that has to succeed, and return what it says."""
        ran = self.run(*arguments, options=options)
        said = ran.stdout + ran.stderr
        assert ran.returncode == 0, said
        return said
