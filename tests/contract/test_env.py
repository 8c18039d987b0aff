"""`tidemark env`: what a deployment uses, as commands for a shell; or why it is not to be had, in one line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.aws_server import AwsServer
from tests.support.command import Command, Ran
from tests.support.gateway import free_port

WEBHOOK = {
    "UPSTASH_REDIS_REST_URL": "https://a-b-1.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "t0k'en $(touch here) `id`",
    "TIDEMARK_STAGE": "prod",
    "TIDEMARK_PUSH_AUDIENCE": "tidemark-prod",
    "TIDEMARK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q.fifo",
    "TIDEMARK_BREAKER_S": "30",
    "POWERTOOLS_SERVICE_NAME": "webhook",
    "TIDEMARK_SECRET_VERSION": "0e1f",
    "PYTHONPATH": "/var/task",
}
STREAM = {
    "UPSTASH_REDIS_REST_URL": "https://a-b-1.upstash.io",
    "TIDEMARK_TOKEN_KEYS": "k1:" + "s" * 32,
    "TIDEMARK_BREAKER_S": "5",
    "AWS_LWA_INVOKE_MODE": "response_stream",
    "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
    "PORT": "8080",
}
FUNCTIONS = {"webhook": WEBHOOK, "stream": STREAM, "replay": {}, "deliver": {}}
OUTPUTS = {
    "WebhookUrl": "https://w.lambda-url.eu-west-1.on.aws/",
    "StreamUrl": "https://s.lambda-url.eu-west-1.on.aws/",
    "ReplayUrl": "https://r.lambda-url.eu-west-1.on.aws/",
    "DeliveryQueueUrl": "https://sqs.eu-west-1.amazonaws.com/1/another.fifo",
    "DeadLetterQueueUrl": "https://sqs.eu-west-1.amazonaws.com/1/dead",
    "ServerlessDeploymentBucketName": "bucket",
}


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    """Give an account with a deployment."""
    with AwsServer.running() as account:
        account.deploy("prod", FUNCTIONS, OUTPUTS)
        yield account


def evaluated(ran: Ran, directory: Path) -> dict[str, str]:
    """Return what a shell has in its environment after it has evaluated the output."""
    assert all(line.startswith("export ") for line in ran.out.splitlines())
    script = 'eval "$1" && exec env -0'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", ran.out], check=True, stdout=subprocess.PIPE, cwd=directory, env={}, text=True
    )
    assert list(directory.iterdir()) == []
    pairs = (entry.partition("=") for entry in shell.stdout.split("\0") if entry)
    return {name: value for name, _, value in pairs if name not in ("PWD", "OLDPWD", "SHLVL", "_")}


def test_a_shell_has_what_the_deployment_uses(aws: AwsServer, command: Command, tmp_path: Path) -> None:
    """Settings of every function, addresses, the region; nothing of Lambda's. Secrets come through as they are."""
    ran = command("env", "prod", settings=aws.settings)
    assert ran.code == 0
    assert evaluated(ran, tmp_path) == {
        "UPSTASH_REDIS_REST_URL": "https://a-b-1.upstash.io",
        "UPSTASH_REDIS_REST_TOKEN": WEBHOOK["UPSTASH_REDIS_REST_TOKEN"],
        "TIDEMARK_STAGE": "prod",
        "TIDEMARK_PUSH_AUDIENCE": "tidemark-prod",
        "TIDEMARK_TOKEN_KEYS": STREAM["TIDEMARK_TOKEN_KEYS"],
        "TIDEMARK_BREAKER_S": "30",
        "TIDEMARK_QUEUE_URL": WEBHOOK["TIDEMARK_QUEUE_URL"],
        "TIDEMARK_DEAD_LETTER_URL": "https://sqs.eu-west-1.amazonaws.com/1/dead",
        "TIDEMARK_WEBHOOK_URL": "https://w.lambda-url.eu-west-1.on.aws",
        "TIDEMARK_STREAM_URL": "https://s.lambda-url.eu-west-1.on.aws",
        "TIDEMARK_REPLAY_URL": "https://r.lambda-url.eu-west-1.on.aws",
        "AWS_REGION": "eu-west-1",
    }
    assert ran.err == "tidemark env: TIDEMARK_BREAKER_S of stream is another than webhook's, which is the one given\n"


def test_settings_of_the_stage_before_are_emptied(aws: AwsServer, command: Command, tmp_path: Path) -> None:
    """A shell that worked on a stage with confirmation does not believe that this one has it."""
    before = {
        "TIDEMARK_CONFIRM_S": "30",
        "TIDEMARK_BROWSER_URL": "https://d.cloudfront.net",
        "TIDEMARK_DATA_DIR": "mine",
        "UPSTASH_EMAIL": "ops@example.com",
    }
    found = evaluated(command("env", "prod", settings={**aws.settings, **before}), tmp_path)
    assert {name for name, value in found.items() if not value} == {"TIDEMARK_CONFIRM_S", "TIDEMARK_BROWSER_URL"}


def test_the_region_may_be_said(aws: AwsServer, command: Command, tmp_path: Path) -> None:
    """And is the one that commands ask in later."""
    ran = command("env", "prod", "--region", "us-east-1", settings=aws.settings)
    assert evaluated(ran, tmp_path)["AWS_REGION"] == "us-east-1"


def test_streams_on_managed_instances_are_another_function(aws: AwsServer, command: Command, tmp_path: Path) -> None:
    """Which is the stream function all the same."""
    aws.environments["tidemark-prod-stream-managed"] = aws.environments.pop("tidemark-prod-stream")
    ran = command("env", "prod", settings=aws.settings)
    assert evaluated(ran, tmp_path)["TIDEMARK_TOKEN_KEYS"] == STREAM["TIDEMARK_TOKEN_KEYS"]
    assert "no function" not in ran.err


def test_what_is_odd_about_a_deployment_is_told(aws: AwsServer, command: Command) -> None:
    """On stderr; what there is, is printed all the same."""
    del aws.environments["tidemark-prod-stream"]
    aws.status = "UPDATE_ROLLBACK_COMPLETE"
    ran = command("env", "prod", settings=aws.settings)
    assert (ran.code, ran.err.splitlines()) == (
        0,
        [
            "tidemark env: the stack tidemark-prod is in the state UPDATE_ROLLBACK_COMPLETE",
            "tidemark env: there is no function tidemark-prod-stream",
        ],
    )
    assert "export TIDEMARK_STAGE='prod'" in ran.out.splitlines()


@pytest.mark.parametrize(
    ("stage", "spoil", "told"),
    [
        (
            "staging",
            {},
            "there is no stack tidemark-staging in eu-west-1: is it deployed (npx osls deploy --stage sta",
        ),
        ("prod", {"environments": {}}, "the stack tidemark-prod has none of the functions: deploy it again"),
        ("prod", {"denied": {"DescribeStacks"}}, "the permission cloudformation:DescribeStacks is missing: "),
        (
            "prod",
            {"denied": {"GetFunctionConfiguration"}},
            "the permission lambda:GetFunctionConfiguration is missing: ",
        ),
        ("prod", {"strange": True}, "AWS does not take the credentials (InvalidClientTokenId): are they current"),
        (
            "prod",
            {
                "environments": {
                    "tidemark-prod-webhook": {"Error": {"ErrorCode": "AccessDenied", "Message": "no key"}}
                }
            },
            "the environment of tidemark-prod-webhook cannot be read: no key",
        ),
    ],
    ids=["no stack", "no functions", "stack forbidden", "functions forbidden", "stranger", "encrypted"],
)
def test_what_is_not_to_be_had_is_told_in_one_line(
    aws: AwsServer, command: Command, stage: str, spoil: dict[str, object], told: str
) -> None:
    """1; a shell that evaluates the output does nothing, and no secret is shown."""
    for name, value in spoil.items():
        setattr(aws, name, value)
    ran = command("env", stage, settings=aws.settings)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"tidemark env: {told}")
    assert ran.err.count("\n") == 1
    assert "secret" not in ran.err


def test_who_is_nobody_at_aws_is_told(aws: AwsServer, command: Command, tmp_path: Path) -> None:
    """No credentials, no region, a profile that is not there."""
    nobody = {"AWS_CONFIG_FILE": f"{tmp_path}/none", "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/none"}
    for settings, told in (
        ({"AWS_ENDPOINT_URL": aws.url, "AWS_REGION": "eu-west-1"}, "no credentials for AWS: set AWS_ACCESS_KEY_ID"),
        ({}, "no region for AWS: say --region, or set AWS_REGION"),
        ({"AWS_REGION": "eu-west-1", "AWS_PROFILE": "x"}, "The config profile (x) could not be found"),
        (
            {**aws.settings, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"},
            "AWS does not answer in eu-west-1: ",
        ),
    ):
        ran = command("env", "prod", settings={**nobody, **settings})
        assert (ran.code, ran.out) == (1, "")
        assert told in ran.err


@pytest.mark.parametrize("arguments", [(), ("a b",), ("prod", "--region", "x;y")])
def test_wrong_usage_is_told_as_such(command: Command, arguments: tuple[str, ...]) -> None:
    """2, before AWS is asked."""
    assert command("env", *arguments).code == 2
