"""What a deployment uses: its settings, as its functions have them, and its addresses, as its stack tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.aws_api import Aws, AwsRefusedError
from infra.cli import CommandError

#: Where commands look for the functions of a deployment: an origin each.
WEBHOOK_URL: Final = "TIDEMARK_WEBHOOK_URL"
STREAM_URL: Final = "TIDEMARK_STREAM_URL"
REPLAY_URL: Final = "TIDEMARK_REPLAY_URL"
BROWSER_URL: Final = "TIDEMARK_BROWSER_URL"

#: Outputs of the stack, and the variables that commands know them by.
_OUTPUTS: Final = {
    "WebhookUrl": WEBHOOK_URL,
    "StreamUrl": STREAM_URL,
    "ReplayUrl": REPLAY_URL,
    "BrowserUrl": BROWSER_URL,
    "DeliveryQueueUrl": "TIDEMARK_QUEUE_URL",
    "DeadLetterQueueUrl": "TIDEMARK_DEAD_LETTER_URL",
    "ConfirmQueueUrl": "TIDEMARK_CONFIRM_QUEUE_URL",
}
#: Those whose settings commands need. Where two have the same setting, the first one's counts.
_FUNCTIONS: Final = ("webhook", "stream", "replay", "deliver")
#: What the stream function is called on managed instances: Lambda lets none change between the two.
MANAGED_STREAM: Final = "stream-managed"
#: Of a function's environment, what is a setting of ours; the rest is Lambda's, the adapter's, for logs, or a mark
#: of the secret's version.
_SETTING: Final = re.compile(r"(?!TIDEMARK_SECRET_VERSION)(TIDEMARK|UPSTASH_REDIS)_[A-Z0-9_]+|SENTRY_DSN")
#: Settings of the operator's own, which no deployment has.
_OPERATORS: Final = ("TIDEMARK_DATA_DIR", "TIDEMARK_TEST_")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Settings and addresses, and what is odd about them, in words."""

    settings: Mapping[str, str]
    oddities: tuple[str, ...]


def stack_name(stage: str) -> str:
    """Return the name of a stage's stack."""
    return f"tidemark-{stage}"


def function_name(stage: str, function: str) -> str:
    """Return the name of a stage's function at Lambda."""
    return f"tidemark-{stage}-{function}"


def read_deployment(aws: Aws, stage: str) -> Deployment:
    """Ask the stack and the functions of a stage. Raises CommandError."""
    stack = _stack(aws, stage)
    oddities = []
    status = str(stack.get("StackStatus", ""))
    if not re.fullmatch(r"(CREATE|UPDATE)_COMPLETE", status):
        oddities.append(f"the stack {stack_name(stage)} is in the state {status}")
    found = {name: _environment(aws, function_name(stage, name)) for name in _FUNCTIONS}
    if found["stream"] is None:
        found["stream"] = _environment(aws, function_name(stage, MANAGED_STREAM))
    missing = [name for name, environment in found.items() if environment is None]
    if len(missing) == len(_FUNCTIONS):
        raise CommandError(f"the stack {stack_name(stage)} has none of the functions: deploy it again")
    oddities += [f"there is no function {function_name(stage, name)}" for name in missing]
    settings: dict[str, str] = {}
    owners: dict[str, str] = {}
    for function, environment in found.items():
        for name, value in _settings(environment or {}):
            if settings.setdefault(name, value) != value:
                oddities.append(f"{name} of {function} is another than {owners[name]}'s, which is the one given")
            owners.setdefault(name, function)
    outputs = {str(one["OutputKey"]): str(one["OutputValue"]) for one in stack.get("Outputs", [])}
    for output, name in _OUTPUTS.items():
        if output in outputs:
            settings.setdefault(name, outputs[output].rstrip("/"))
    return Deployment({**settings, "AWS_REGION": aws.region}, tuple(oddities))


def left_over(environ: Mapping[str, str], deployment: Deployment) -> Iterator[str]:
    """Name the settings in an environment that the deployment does not have: they are another's."""
    for name, value in environ.items():
        if value and _SETTING.fullmatch(name) and name not in deployment.settings and not name.startswith(_OPERATORS):
            yield name


def _stack(aws: Aws, stage: str) -> Mapping[str, Any]:
    name = stack_name(stage)
    try:
        stacks = aws.ask("cloudformation", "describe_stacks", StackName=name)["Stacks"]
    except AwsRefusedError as error:
        if error.code == "ValidationError" and "does not exist" in str(error):
            raise CommandError(
                f"there is no stack {name} in {aws.region}: is it deployed (npx osls deploy --stage {stage}), and "
                "are this its region (--region) and its account (AWS_PROFILE)?"
            ) from None
        raise
    stack: Mapping[str, Any] = stacks[0]
    return stack


def _environment(aws: Aws, name: str) -> Mapping[str, str] | None:
    """Return a function's environment; None if there is no such function."""
    try:
        told = aws.ask("lambda", "get_function_configuration", FunctionName=name).get("Environment", {})
    except AwsRefusedError as error:
        if error.code == "ResourceNotFoundException":
            return None
        raise
    if "Error" in told:
        # The function is there, and the key is not ours to use that its environment is encrypted with.
        raise CommandError(f"the environment of {name} cannot be read: {told['Error'].get('Message', 'kms:Decrypt')}")
    variables: Mapping[str, str] = told.get("Variables", {})
    return variables


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(environment.items()):
        if _SETTING.fullmatch(name):
            yield name, value
