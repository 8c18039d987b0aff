"""A stage's life on AWS, as far as moto models it: deployed, deployed again, rolled back, removed.

moto keeps functions, roles, queues, event source mappings, schedules, secrets and the deployment bucket. It skips
function URLs, alarms, metric filters, the retry setting of drill and the bucket's policy, resolves no secrets, has no
termination protection, and loses architectures: these are looked at in the template. It knows a layer only if it was
published, so one is, in the adapter's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.checks.queues import examine_queues
from shared.settings import Function, Settings
from tests.support.command import Command
from tests.support.moto_server import MotoServerProcess
from tests.support.osls import PUSH_ACCOUNT, SECRET, Osls

STAGE = "life"
GIVEN = f"push_service_account={PUSH_ACCOUNT}"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Aws:
    """What the account holds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.secrets = self._client("secretsmanager")
        self.lambdas = self._client("lambda")
        self.queues = self._client("sqs")
        self.roles = self._client("iam")
        self.rules = self._client("events")

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def environment(self, function: str) -> dict[str, str]:
        """Return the variables of a function."""
        found = self.lambdas.get_function_configuration(FunctionName=f"tidemark-{STAGE}-{function}")
        variables: dict[str, str] = found["Environment"]["Variables"]
        return variables

    def reachable(self, environment: Mapping[str, str]) -> Settings:
        """Return the settings of a function from here: moto resolves no secrets, and its queues are not at AWS."""
        secrets = {name: SECRET[name] for name, value in environment.items() if value.startswith("{{resolve:")}
        urls = {
            name: self.queues.get_queue_url(QueueName=value.rpartition("/")[2])["QueueUrl"]
            for name, value in environment.items()
            if name in ("TIDEMARK_QUEUE_URL", "TIDEMARK_DEAD_LETTER_URL")
        }
        return Settings.of({**environment, **secrets, **urls, **KEYS, "AWS_REGION": "us-east-1"}, Function.DELIVER)

    def names(self) -> set[str]:
        """Return the names of our functions."""
        return {found["FunctionName"] for found in self.lambdas.list_functions()["Functions"]}


@pytest.fixture(scope="module")
def aws(moto_server: MotoServerProcess) -> Iterator[Aws]:
    """Give an account with a stage's secret, which has an option's value in it that no option wants."""
    made = Aws(moto_server.url)
    made.secrets.create_secret(Name=f"tidemark/{STAGE}", SecretString=json.dumps(SECRET))
    yield made
    made.secrets.delete_secret(SecretId=f"tidemark/{STAGE}", ForceDeleteWithoutRecovery=True)


@pytest.fixture(scope="module")
def adapter(aws: Aws) -> str:
    """Give a layer that moto knows, as an option."""
    layer = aws.lambdas.publish_layer_version(LayerName="adapter", Content={"ZipFile": b"adapter"})
    return f"adapter_layer={layer['LayerVersionArn']}"


async def test_a_stage_is_deployed_again_rolled_back_and_removed(
    aws: Aws, adapter: str, tmp_path: Path, command: Command
) -> None:
    """Each step leaves what it should; the second deployment brings new code, an option, and a rotated secret."""
    osls = Osls(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": aws.url})
    stage = ("--stage", STAGE)
    said = osls.done("deploy", *stage, options=[GIVEN, adapter])
    assert "secret-" not in said
    functions = {f"tidemark-{STAGE}-{name}" for name in ("webhook", "stream", "replay", "deliver", "drill")}
    assert aws.names() == functions
    first = code_of(aws, "webhook")
    version = aws.environment("webhook")["TIDEMARK_SECRET_VERSION"]

    # The queues are what doctor wants.
    environment = aws.environment("deliver")
    assert environment["TIDEMARK_QUEUE_URL"].endswith(f"/tidemark-{STAGE}-delivery.fifo")
    findings = [finding async for finding in examine_queues(aws.reachable(environment))]
    assert [(finding.level, finding.what) for finding in findings] == [
        ("ok", "delivery queue: 0 wait, 0 are in flight"),
        ("ok", "dead letters: none"),
    ]

    # deliver is called by its queue and its schedule, each function has a role of its own.
    assert sources(aws) == {f"tidemark-{STAGE}-delivery.fifo"}
    rules = {rule["ScheduleExpression"] for rule in aws.rules.list_rules()["Rules"]}
    assert {"rate(5 minutes)", "cron(0 6 1 * ? *)"} <= rules
    roles = {role_of(aws, name) for name in functions}
    assert len(roles) == len(functions)

    osls.build("webhook", "second")
    aws.secrets.put_secret_value(SecretId=f"tidemark/{STAGE}", SecretString=json.dumps({**SECRET, "more": "x"}))
    osls.done("deploy", *stage, options=[GIVEN, adapter, "confirmation=on"])
    second = code_of(aws, "webhook")
    assert second != first
    assert aws.environment("webhook")["TIDEMARK_SECRET_VERSION"] != version
    for name in ("webhook", "deliver", "drill"):
        assert aws.environment(name)["TIDEMARK_CONFIRM_S"] == "30"
    assert sources(aws) == {f"tidemark-{STAGE}-delivery.fifo", f"tidemark-{STAGE}-confirmation"}
    assert {role_of(aws, name) for name in functions} == roles

    # `tidemark env` finds the settings of all of them, and what only the stack tells.
    told = command("env", STAGE, settings={**KEYS, "AWS_ENDPOINT_URL": aws.url, "AWS_REGION": "us-east-1"})
    assert (told.code, told.err) == (0, "")
    exported = dict(line.removeprefix("export ").split("=", 1) for line in told.out.splitlines())
    assert exported["TIDEMARK_STAGE"] == f"'{STAGE}'"
    assert exported["TIDEMARK_CONFIRM_S"] == "'30'"
    queues = {"QUEUE": "delivery.fifo", "DEAD_LETTER": "dead-letters", "CONFIRM_QUEUE": "confirmation"}
    for name, queue in queues.items():
        assert exported[f"TIDEMARK_{name}_URL"].endswith(f"/tidemark-{STAGE}-{queue}'")
    assert {"UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "TIDEMARK_TOKEN_KEYS"} <= exported.keys()
    assert not [name for name in exported if name.startswith(("AWS_LWA", "POWERTOOLS")) or "SECRET_VERSION" in name]

    listed = osls.done("deploy", "list", *stage)
    timestamps = re.findall(r"Timestamp: (\d+)", listed)
    assert len(timestamps) == 2
    osls.done("rollback", *stage, "--timestamp", min(timestamps), options=[GIVEN])
    assert code_of(aws, "webhook") == first
    assert "TIDEMARK_CONFIRM_S" not in aws.environment("webhook")

    osls.done("remove", *stage)
    assert aws.names() == set()
    assert [url for url in aws.queues.list_queues().get("QueueUrls", []) if f"tidemark-{STAGE}-" in url] == []
    # What is not the stack's stays.
    assert aws.secrets.describe_secret(SecretId=f"tidemark/{STAGE}")["Name"] == f"tidemark/{STAGE}"


def test_nothing_is_changed_where_a_setting_or_the_secret_is_missing(aws: Aws, tmp_path: Path) -> None:
    """The deployment ends before it has made anything, and says what is missing and where to put it."""
    osls = Osls(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": aws.url})
    unset = osls.run("deploy", "--stage", STAGE)
    assert unset.returncode == 1
    assert "TIDEMARK_PUSH_SERVICE_ACCOUNT is missing" in unset.stderr
    assert "option push_service_account in infra/deployment/stages.yml" in unset.stderr
    absent = osls.run("deploy", "--stage", "absent", options=[GIVEN])
    assert absent.returncode == 1
    assert "aws secretsmanager create-secret --region us-east-1 --name tidemark/absent" in absent.stderr
    assert aws.names() == set()


def code_of(aws: Aws, function: str) -> str:
    """Return the digest of a function's code."""
    found = aws.lambdas.get_function_configuration(FunctionName=f"tidemark-{STAGE}-{function}")
    digest: str = found["CodeSha256"]
    return digest


def role_of(aws: Aws, function: str) -> str:
    """Return the role of a function, which exists."""
    arn: str = aws.lambdas.get_function_configuration(FunctionName=function)["Role"]
    try:
        aws.roles.get_role(RoleName=arn.rpartition("/")[2])
    except ClientError as error:
        raise AssertionError(f"{function} has no role: {error}") from None
    return arn


def sources(aws: Aws) -> set[str]:
    """Return the names of the queues that deliver is called by."""
    # moto finds none by a function's name.
    found = aws.lambdas.list_event_source_mappings()["EventSourceMappings"]
    mappings = [mapping for mapping in found if mapping["FunctionArn"].endswith(f":tidemark-{STAGE}-deliver")]
    for mapping in mappings:
        assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (10, ["ReportBatchItemFailures"])
    return {mapping["EventSourceArn"].rpartition(":")[2] for mapping in mappings}
