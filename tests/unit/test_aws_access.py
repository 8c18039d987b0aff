"""Where a command takes its access to AWS from."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.aws_access import region_of, with_aws_access
from infra.cli import CommandError

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/q.fifo"
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may be somebody at AWS."""
    for name in (*KEYS, "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (QUEUE, "eu-west-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs.us-east-2.api.aws/1/q", "us-east-2"),
        ("https://vpce-1-2.sqs.us-east-1.vpce.amazonaws.com/1/q", "us-east-1"),
        ("https://us-west-2.queue.amazonaws.com/1/q", "us-west-2"),
        ("http://127.0.0.1:9324/000000000000/q", None),
        ("https://sqs.eu-west-1.amazonaws.com.evil.example/1/q", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_the_host_of_a_queue_tells_its_region(url: str, region: str | None) -> None:
    """Every form that AWS gives; the local queue server's tells none."""
    assert region_of(url) == region


def test_the_environments_own_access_is_used_as_it_is() -> None:
    """With its session token, and in the region of the queue, whatever AWS_REGION says: SQS takes no other."""
    environ = {**KEYS, "AWS_SESSION_TOKEN": "t", "AWS_REGION": "us-east-1", "TIDEMARK_QUEUE_URL": QUEUE, "X": "y"}
    assert with_aws_access(environ) == {**environ, "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_where_the_queue_tells_no_region_the_environment_does(name: str) -> None:
    """By either of the two names in use."""
    environ = {**KEYS, name: "eu-north-1", "TIDEMARK_QUEUE_URL": "http://127.0.0.1:1/0/q.fifo"}
    assert with_aws_access(environ)["AWS_REGION"] == "eu-north-1"


def test_a_profile_gives_credentials_and_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS's own tools find them."""
    (tmp_path / "config").write_text("[profile ops]\nregion = eu-central-1\n")
    (tmp_path / "credentials").write_text(
        "[ops]\naws_access_key_id = profile-id\naws_secret_access_key = profile-secret\naws_session_token = st\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "ops")
    found = with_aws_access({"TIDEMARK_QUEUE_URL": "http://127.0.0.1:1/0/q.fifo"})
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("profile-id", "profile-secret")
    assert (found["AWS_SESSION_TOKEN"], found["AWS_REGION"]) == ("st", "eu-central-1")


def test_what_is_not_to_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, no region, a profile that is not there: each in words."""
    with pytest.raises(CommandError, match="no credentials for AWS: set AWS_ACCESS_KEY_ID"):
        with_aws_access({"TIDEMARK_QUEUE_URL": QUEUE})
    with pytest.raises(CommandError, match="no region for AWS: set AWS_REGION"):
        with_aws_access({**KEYS, "TIDEMARK_QUEUE_URL": "http://127.0.0.1:1/0/q.fifo"})
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CommandError, match="nobody"):
        with_aws_access({"TIDEMARK_QUEUE_URL": QUEUE})
