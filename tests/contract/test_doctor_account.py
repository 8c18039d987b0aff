"""`tidemark doctor` on the account at AWS: whether so many streams may be open at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.aws_server import AwsServer
from tests.support.command import Command
from tests.support.doctor import findings, one


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    """Give an account without anything in it."""
    with AwsServer.running() as account:
        yield account


def test_an_account_as_it_comes_is_told_before_anything_is_deployed(aws: AwsServer, command: Command) -> None:
    """New ones begin with ten."""
    aws.quota = (10, 10)
    level, what, fix = one(command("doctor", settings=aws.settings), "account")
    assert level == "warn"
    assert what.startswith("account: 10 invocations at the same time in eu-west-1: ")
    assert "Service Quotas, AWS Lambda, Concurrent executions" in fix


@pytest.mark.parametrize(("streams", "level"), [(900, "ok"), (901, "FAIL")])
def test_the_quota_must_be_enough_for_the_streams_that_are_wanted(
    aws: AwsServer, command: Command, streams: int, level: str
) -> None:
    """And for a hundred besides, which AWS keeps for everything else."""
    found = findings(command("doctor", "--streams", streams, settings=aws.settings))
    (told,) = [told for what, (told, _) in found.items() if what.startswith("account: 1,000 invocations")]
    assert told == level
    assert not [what for what in found if what.startswith("reserved")]


RESERVED = {
    "nothing": ({}, (), "warn", "webhook nothing, stream nothing: open streams may leave none for pushes"),
    "both": ({"webhook": 50, "stream": 500}, (), "ok", "webhook 50, stream 500"),
    "one": ({"stream": 500}, (), "ok", "webhook nothing, stream 500"),
    "too little": (
        {"stream": 500},
        ("--streams", 501),
        "FAIL",
        "webhook nothing, stream 500; 501 streams are wanted",
    ),
    "shut": ({"webhook": 0}, (), "FAIL", "webhook 0, stream nothing"),
}


@pytest.mark.parametrize(("reserved", "arguments", "level", "told"), RESERVED.values(), ids=RESERVED)
def test_what_is_reserved_for_a_deployments_functions_is_told(
    aws: AwsServer, command: Command, reserved: dict[str, int], arguments: tuple[object, ...], level: str, told: str
) -> None:
    """Of the stage that the environment names."""
    aws.deploy("prod", {"webhook": {}, "stream": {}}, {})
    aws.reserved = {f"tidemark-prod-{name}": count for name, count in reserved.items()}
    ran = command("doctor", *arguments, settings={**aws.settings, "TIDEMARK_STAGE": "prod"})
    assert findings(ran)[f"reserved: {told}"][0] == level


def test_streams_on_managed_instances_take_none_of_it(aws: AwsServer, command: Command) -> None:
    """However many they are; pushes do."""
    aws.deploy("prod", {"webhook": {}, "stream-managed": {}}, {})
    aws.reserved = {"tidemark-prod-webhook": 50}
    ran = command("doctor", "--streams", 5000, settings={**aws.settings, "TIDEMARK_STAGE": "prod"})
    told = {what: level for what, (level, _) in findings(ran).items() if what.startswith(("account", "reserved"))}
    assert list(told.values()) == ["ok", "ok"]
    assert "reserved: webhook 50" in told


def test_what_may_not_be_looked_at_is_a_warning(aws: AwsServer, command: Command) -> None:
    """With the permission that is missing, and where a person can see it."""
    aws.deploy("prod", {"webhook": {}, "stream": {}}, {})
    settings = {**aws.settings, "TIDEMARK_STAGE": "prod"}
    aws.denied = {"GetFunctionConcurrency"}
    level, what, _ = one(command("doctor", settings=settings), "reserved")
    assert (level, "lambda:GetFunctionConcurrency is missing" in what) == ("warn", True)
    aws.denied = {"GetAccountSettings"}
    level, what, fix = one(command("doctor", settings=settings), "account")
    assert (level, "lambda:GetAccountSettings is missing" in what) == ("warn", True)
    assert fix.startswith("see in the console")


def test_nobody_at_aws_is_asked_about_a_database_elsewhere(command: Command) -> None:
    """Without a word of AWS in the environment."""
    assert "account:" not in command("doctor", settings={"TIDEMARK_STAGE": "prod"}).out
