"""The stack as `osls` packages it, in the variants that are looked at.

templates = packaged(directory)
templates["plain"].function("webhook")["Timeout"]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.deployment.environments import resolve
from tests.support.osls import PUSH_ACCOUNT, SECRET, Osls

GIVEN = f"push_service_account={PUSH_ACCOUNT}"
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
#: The stage, and what is said with the command.
VARIANTS = {
    "plain": ("dev", [GIVEN]),
    "everything": (
        "prod",
        [
            GIVEN,
            "confirmation=on",
            "confirm_s=45",
            "sentry=on",
            "bypass=on",
            "cdn=on",
            "cdn_domain=events.example.com",
            f"cdn_certificate={CERTIFICATE}",
            "alarm_email=ops@example.com",
            "reserve_webhook=50",
            "reserve_stream=800",
            "cors_origins=https://app.example.com",
            "retention_s=7200",
        ],
    ),
    "managed": (
        "staging",
        [
            GIVEN,
            "streams_on=managed",
            "managed_subnets=subnet-12345678,subnet-12345679",
            "managed_security_groups=sg-12345678",
            "cdn=on",
        ],
    ),
}


class Template:
    """A packaged stack, as CloudFormation gets it."""

    def __init__(self, text: str, stage: str) -> None:
        self.text = text
        self.stage = stage
        self.content: dict[str, Any] = json.loads(text)
        self.resources: dict[str, dict[str, Any]] = self.content["Resources"]
        self.outputs: dict[str, dict[str, Any]] = self.content["Outputs"]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of each resource of a type, by logical id."""
        return {name: made["Properties"] for name, made in self.resources.items() if made["Type"] == f"AWS::{kind}"}

    def function(self, name: str) -> dict[str, Any]:
        """Return the properties of one of our functions."""
        found: dict[str, Any] = self.resources[logical_id(name)]["Properties"]
        return found

    def environment(self, name: str) -> dict[str, Any]:
        """Return the variables of one of our functions, as they are packaged."""
        found: dict[str, Any] = self.function(name)["Environment"]["Variables"]
        return found

    def resolved(self, name: str) -> dict[str, str]:
        """Return the same with likely values where CloudFormation has the real ones, and what Lambda adds."""
        runtime = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        return {**resolve(self.environment(name), SECRET), **runtime, "AWS_LAMBDA_FUNCTION_NAME": name}

    def statements(self, name: str) -> Iterator[dict[str, Any]]:
        """Give each statement of what one of our functions may do."""
        role = f"{name.capitalize()}Role"
        for policy in self.of_type("IAM::Role")[role]["Policies"]:
            yield from policy["PolicyDocument"]["Statement"]
        for policy in self.of_type("IAM::Policy").values():
            if {"Ref": role} in policy["Roles"]:
                yield from policy["PolicyDocument"]["Statement"]


def logical_id(function: str) -> str:
    """Return what a function is called inside the stack."""
    return f"{function.capitalize()}LambdaFunction"


def packaged(directory: Path) -> dict[str, Template]:
    """Package every variant, two at a time."""

    def package(name: str) -> Template:
        stage, options = VARIANTS[name]
        osls = Osls(directory / name)
        # A team may write nothing where we have written null.
        stages = osls.project / "infra/deployment/stages.yml"
        stages.write_text(stages.read_text().replace("trusted_proxies: null", "trusted_proxies: ''"))
        into = directory / name / "packaged"
        osls.done("package", "--stage", stage, "--package", str(into), options=options)
        return Template((into / "cloudformation-template-update-stack.json").read_text(), stage)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(VARIANTS, pool.map(package, VARIANTS), strict=True))
