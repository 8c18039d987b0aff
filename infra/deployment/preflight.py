"""Before a deployment: whether every function will have the settings that it needs.

The plugin of osls gives each function's environment as JSON on stdin. What is wrong is told on stderr, a line a
function, and ends it with 1: then nothing is deployed. Stdout has the version of the secret that was looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.deployment.environments import SECRETS, faults_of
from shared.settings import Function

_PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
_EXAMPLE = {
    "UPSTASH_REDIS_REST_URL": "https://….upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "…",
    "TIDEMARK_TOKEN_KEYS": "k1:…",
}


class PreflightError(Exception):
    """Something is wrong; the message says what, and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Look, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.deployment.preflight", description=__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--region", required=True)
    arguments = parser.parse_args(argv)
    try:
        version = examine(arguments.stage, arguments.region, json.load(sys.stdin))
    except PreflightError as error:
        print(error, file=sys.stderr)
        return 1
    print(version)
    return 0


def examine(stage: str, region: str, environments: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the version of the stage's secret. Raises PreflightError, a line for each function at fault."""
    secret, version = read_secret(f"tidemark/{stage}", region)
    lines = []
    for name, environment in environments.items():
        faults = list(faults_of(Function(name), environment, secret))
        if faults:
            lines.append(f"tidemark-{stage}-{name}: {'; '.join(faults)}")
    if lines:
        raise PreflightError("\n".join(lines))
    return version


def read_secret(name: str, region: str) -> tuple[Mapping[str, Any], str]:
    """Return what a secret holds, and its version. Raises PreflightError."""
    try:
        # A profile that is not there is found out here.
        client = botocore.session.Session().create_client("secretsmanager", region_name=region, config=_PATIENCE)
        answer = client.get_secret_value(SecretId=name)
    except ClientError as error:
        raise PreflightError(_refused(name, region, error.response["Error"])) from None
    except BotoCoreError as error:
        raise PreflightError(f"the secret {name} cannot be read: {error}") from None
    try:
        held = json.loads(answer.get("SecretString") or "")
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise PreflightError(f"the secret {name} must be a JSON object that holds {', '.join(SECRETS)}")
    return held, answer["VersionId"]


def _refused(name: str, region: str, error: Mapping[str, str]) -> str:
    code = error.get("Code", "")
    if code == "ResourceNotFoundException":
        example = json.dumps(_EXAMPLE, ensure_ascii=False)
        return (
            f"there is no secret {name} in {region}. Make it, with your values:\n"
            f"  aws secretsmanager create-secret --region {region} --name {name} --secret-string '{example}'"
        )
    if code.startswith("AccessDenied"):
        return f"the secret {name} cannot be read: whoever deploys needs secretsmanager:GetSecretValue for it"
    return f"the secret {name} cannot be read: {code} {error.get('Message', '')}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
