"""What each function's environment will be once CloudFormation has resolved it, and what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.errors import SettingsError
from shared.settings import Function, Settings

#: What the secret of a stage may hold: required ones first, then those that an option switches on.
SECRETS: Final = ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "TIDEMARK_TOKEN_KEYS")
SWITCHED_SECRETS: Final = {"SENTRY_DSN": "sentry", "TIDEMARK_BYPASS_SECRET": "bypass"}
#: Lambda takes no larger environment ("Lambda quotas"), and measures it as JSON.
MOST_BYTES: Final = 4096
#: What the plugin adds: the version of the secret, a UUID.
_VERSION: Final = {"TIDEMARK_SECRET_VERSION": "0" * 36}
_RESOLVE: Final = re.compile(r"\{\{resolve:secretsmanager:[^:}]+:SecretString:([^:}]+)\}\}")
_FAULTS: Final = re.compile(r"; (?=[A-Z][A-Z_]+ )")
_OPTION: Final = re.compile(r"^(?:TIDEMARK|POWERTOOLS)_")


def faults_of(function: Function, environment: Mapping[str, Any], secret: Mapping[str, Any]) -> Iterator[str]:
    """Say of each variable at fault what it should hold, and where to put it. No value is ever shown."""
    resolved = resolve(environment, secret)
    # What Lambda adds.
    runtime = {
        "AWS_LAMBDA_FUNCTION_NAME": function.value,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "given",
        "AWS_SECRET_ACCESS_KEY": "given",
    }
    try:
        Settings.of({**resolved, **runtime}, function)
    except SettingsError as error:
        for fault in _FAULTS.split(str(error).removeprefix("settings: ")):
            yield f"{fault} ({_place(fault.split()[0])})"
    size = len(json.dumps({**resolved, **_VERSION}, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MOST_BYTES:
        yield f"its variables are {size} bytes, and Lambda takes {MOST_BYTES}"


def resolve(environment: Mapping[str, Any], secret: Mapping[str, Any]) -> dict[str, str]:
    """Put the secrets in their places, and likely values where CloudFormation has the real ones."""
    resolved = {}
    for name, value in environment.items():
        if not isinstance(value, str):
            # A reference to a queue of the same stack.
            suffix = ".fifo" if name == "TIDEMARK_QUEUE_URL" else ""
            resolved[name] = f"https://sqs.us-east-1.amazonaws.com/000000000000/queue{suffix}"
            continue
        asked = _RESOLVE.fullmatch(value)
        found = value if asked is None else secret.get(asked[1])
        if isinstance(found, str) and found:
            resolved[name] = found
    return resolved


def _place(variable: str) -> str:
    if variable in SECRETS or variable in SWITCHED_SECRETS:
        return "in the secret"
    if variable == "TIDEMARK_STAGE":
        return "the stage's name"
    return f"option {_OPTION.sub('', variable).lower()} in infra/deployment/stages.yml"
