"""What `tidemark cost` takes for granted of a deployment is what serverless.yml deploys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.cost.assumptions import Assumptions

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "infra" / "deployment"
GIVEN = Assumptions()


def option(name: str) -> str:
    """Return the default of a stage's option."""
    default = (DEPLOYMENT / "stages.yml").read_text(encoding="utf-8").partition("\ndev:")[0]
    (value,) = re.findall(rf"^  {name}: ([^ #\n]+)", default, re.MULTILINE)
    return str(value)


def test_alarms_metrics_and_dashboards_are_as_many_as_are_deployed() -> None:
    """An alarm for each row of the table, and a metric of our own for each that is found in logs."""
    table = (DEPLOYMENT / "alarms.yml").read_text(encoding="utf-8")
    lines, _, metrics = table.partition("\nmetrics:\n")
    found, measured = (len(re.findall(r"^  - name: \w+$", part, re.MULTILINE)) for part in (lines, metrics))
    assert GIVEN.metrics == found
    assert GIVEN.alarms == found + measured
    resources = "".join(file.read_text(encoding="utf-8") for file in (DEPLOYMENT / "resources").iterdir())
    assert GIVEN.dashboards == resources.count("AWS::CloudWatch::Dashboard")
    # Nothing else makes any.
    assert resources.count("AWS::CloudWatch::Alarm") == 1


def test_secrets_are_in_one_secret_and_nothing_is_in_parameters() -> None:
    """One a stage."""
    written = (DEPLOYMENT / "secrets.yml").read_text(encoding="utf-8")
    named = re.findall(r"\{\{resolve:([a-z]+):([^:]+):", written)
    assert {service for service, _ in named} == {"secretsmanager"}
    assert GIVEN.secrets == len({name for _, name in named})
    assert GIVEN.parameters == 0


@pytest.mark.parametrize(
    ("name", "assumed"),
    [
        ("stream_mb", GIVEN.stream_mb),
        ("webhook_mb", GIVEN.function_mb),
        ("replay_mb", GIVEN.function_mb),
        ("deliver_mb", GIVEN.function_mb),
        ("log_days", GIVEN.log_days),
        ("managed_streams", GIVEN.streams_per_process),
        ("managed_least", GIVEN.instances_least),
    ],
)
def test_sizes_are_the_defaults_of_a_stage(name: str, assumed: float) -> None:
    """Memory, days that logs are kept, and what an environment with many streams is given."""
    assert float(option(name)) == assumed


def test_deliver_is_scheduled_as_assumed() -> None:
    """Every five minutes."""
    assert re.search(
        r"^  deliver_schedule: rate\(5 minutes\)$", (DEPLOYMENT / "stages.yml").read_text(), re.MULTILINE
    )
    assert GIVEN.schedule_s == 300
