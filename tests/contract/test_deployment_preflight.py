"""What looks before a deployment: a secret or a setting that is missing stops it, with one line a function."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.deployment.environments import MOST_BYTES, faults_of
from infra.deployment.preflight import main
from shared.settings import Function
from tests.support.moto_server import MotoServerProcess
from tests.support.osls import PUSH_ACCOUNT, SECRET, Osls

REGION = "eu-west-1"


def named(variable: str) -> str:
    return f"{{{{resolve:secretsmanager:tidemark/x:SecretString:{variable}}}}}"


REDIS = {name: named(name) for name in ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")}
QUEUES = {"TIDEMARK_QUEUE_URL": {"Ref": "DeliveryQueue"}, "TIDEMARK_DEAD_LETTER_URL": {"Ref": "DeadLetterQueue"}}
PUSH = {"TIDEMARK_PUSH_AUDIENCE": "tidemark-x", "TIDEMARK_PUSH_SERVICE_ACCOUNT": PUSH_ACCOUNT}
ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "webhook": {**REDIS, **QUEUES, **PUSH},
    "stream": {**REDIS, "TIDEMARK_TOKEN_KEYS": named("TIDEMARK_TOKEN_KEYS")},
    "deliver": {**REDIS, **QUEUES},
}


class Stage:
    """A stage with a name of its own, and its secret in Secrets Manager."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }.items():
            monkeypatch.setenv(name, value)
        self.name = f"x-{secrets.token_hex(4)}"
        self._client = boto3.client("secretsmanager", region_name=REGION)
        self._patch = monkeypatch
        self._capsys = capsys

    def keep(self, secret: Mapping[str, Any] | str) -> str:
        """Make the secret, and return its version."""
        text = secret if isinstance(secret, str) else json.dumps(secret)
        version: str = self._client.create_secret(Name=f"tidemark/{self.name}", SecretString=text)["VersionId"]
        return version

    def look(self, environments: Mapping[str, Mapping[str, Any]] = ENVIRONMENTS) -> tuple[int, str, str]:
        """Return the exit code and what was said on stdout and stderr, which is never a value of the secret."""
        self._patch.setattr("sys.stdin", io.StringIO(json.dumps(environments)))
        code = main(["--stage", self.name, "--region", REGION])
        said = self._capsys.readouterr()
        assert not [value for value in SECRET.values() if value in said.out + said.err]
        return code, said.out, said.err


@pytest.fixture
def stage(
    moto_server: MotoServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Stage]:
    """Give a stage that has no secret yet."""
    made = Stage(moto_server.url, monkeypatch, capsys)
    yield made
    made._client.close()


def test_what_is_complete_passes_and_the_secrets_version_is_told(stage: Stage) -> None:
    """On stdout, for whoever goes on with the deployment; nothing else is said."""
    version = stage.keep(SECRET)
    assert stage.look() == (0, f"{version}\n", "")


def test_without_a_secret_the_command_that_makes_it_is_told(stage: Stage) -> None:
    """With its name and its region, and the keys that it must hold."""
    code, out, told = stage.look()
    assert (code, out) == (1, "")
    assert f"aws secretsmanager create-secret --region {REGION} --name tidemark/{stage.name} --secret-string" in told
    assert all(name in told for name in ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "TIDEMARK_TOKEN_KEYS"))


@pytest.mark.parametrize("secret", ["not JSON", '["a list"]', ""])
def test_a_secret_of_another_form_is_told(stage: Stage, secret: str) -> None:
    """It has to be a JSON object; what it is instead is not shown."""
    stage.keep(secret or " ")
    code, _, told = stage.look()
    assert code == 1
    assert f"the secret tidemark/{stage.name} must be a JSON object that holds UPSTASH_REDIS_REST_URL" in told
    assert len(told.splitlines()) == 1


def test_each_function_at_fault_has_one_line_that_names_everything_and_where_to_put_it(stage: Stage) -> None:
    """What is missing in the secret, what is malformed in it, and what no option says."""
    stage.keep({**SECRET, "UPSTASH_REDIS_REST_TOKEN": "", "TIDEMARK_TOKEN_KEYS": "k1:short"})
    without = {
        name: value for name, value in ENVIRONMENTS["webhook"].items() if name != "TIDEMARK_PUSH_SERVICE_ACCOUNT"
    }
    code, out, told = stage.look({**ENVIRONMENTS, "webhook": {**without, "TIDEMARK_RETENTION_S": "soon"}})
    assert (code, out) == (1, "")
    webhook, stream, deliver = told.splitlines()
    token = "UPSTASH_REDIS_REST_TOKEN is missing: must be the database's REST token (in the secret)"
    assert webhook == (
        f"tidemark-{stage.name}-webhook: "
        "TIDEMARK_RETENTION_S must be a whole number from 1 to 31536000 (option retention_s in "
        f"infra/deployment/stages.yml); {token}; "
        "TIDEMARK_PUSH_SERVICE_ACCOUNT is missing: must be the e-mail address of the push subscription's service "
        "account (option push_service_account in infra/deployment/stages.yml)"
    )
    assert stream.startswith(f"tidemark-{stage.name}-stream: {token}; TIDEMARK_TOKEN_KEYS must be kid:secret")
    assert deliver == f"tidemark-{stage.name}-deliver: {token}"


def test_an_aws_that_cannot_be_reached_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without credentials as well: nothing is raised through."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, _, told = stage.look()
    assert code == 1
    assert f"the secret tidemark/{stage.name} cannot be read: " in told
    assert len(told.splitlines()) == 1


def test_an_environment_that_lambda_would_not_take_is_told() -> None:
    """Its variables may be 4 KB together."""
    keys = ",".join(f"k{number}:{'k' * 64}" for number in range(60))
    (fault,) = faults_of(Function.STREAM, ENVIRONMENTS["stream"], {**SECRET, "TIDEMARK_TOKEN_KEYS": keys})
    assert str(MOST_BYTES) in fault


def test_an_environment_is_measured_as_lambda_does() -> None:
    """As JSON, with the variable that is added to it: what is just too large then is found out before."""
    secret = {**SECRET, "TIDEMARK_TOKEN_KEYS": f"k1:{'k' * 64}"}
    told = {name: secret[name] for name in (*REDIS, "TIDEMARK_TOKEN_KEYS")} | {"TIDEMARK_SECRET_VERSION": "v" * 36}
    room = MOST_BYTES - len(json.dumps(told, separators=(",", ":")))
    for more, faults in ((room, 0), (room + 1, 1)):
        keys = f"k1:{'k' * (64 + more)}"
        assert (
            len(list(faults_of(Function.STREAM, ENVIRONMENTS["stream"], {**secret, "TIDEMARK_TOKEN_KEYS": keys})))
            == faults
        )


def test_a_profile_that_is_not_there_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, as everything else."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    code, _, told = stage.look()
    assert code == 1
    assert "nobody" in told
    assert len(told.splitlines()) == 1


def test_options_that_are_misspelt_or_make_no_sense_are_refused(tmp_path: Path) -> None:
    """They would be passed over. And one function alone is not deployed: it would get names of secrets."""
    refused = {
        ("package", "confrim=on"): "no such option: confrim; see default in infra/deployment/stages.yml",
        ("package", "cdn_certificate=arn"): "the option cdn_certificate needs cdn_domain",
        ("package", "alarm_wait_s=soon"): "the alarm PushesWait needs a number above 0, not soon",
        ("package --stage Prod", "sentry=on"): "the stage's name must be 1-32 characters of a-z 0-9 -, not Prod",
        ("package", "sentry=yes"): "the option sentry must be on or off, not yes",
        ("package", "streams_on=managed"): "the option streams_on=managed needs managed_subnets",
        ("deploy function -f webhook", "sentry=on"): "osls deploy function would write",
    }

    def said(number: int, command: str, option: str) -> str:
        ran = Osls(tmp_path / str(number)).run(*command.split(), options=[option])
        assert ran.returncode == 1
        return ran.stdout + ran.stderr

    with ThreadPoolExecutor(2) as pool:
        told = pool.map(said, range(len(refused)), *zip(*refused, strict=True))
    for expected, found in zip(refused.values(), told, strict=True):
        assert expected in found


def test_an_option_that_is_misspelt_under_a_stage_is_refused(tmp_path: Path) -> None:
    """That is where a team writes them down."""
    osls = Osls(tmp_path)
    stages = osls.project / "infra/deployment/stages.yml"
    stages.write_text(stages.read_text().replace("\nprod:\n", "\nprod:\n  alarm_mail: ops@example.com\n"))
    ran = osls.run("package", "--stage", "prod")
    assert ran.returncode == 1
    assert "no such option: alarm_mail" in ran.stdout + ran.stderr
