"""What serverless.yml says of each function, as far as it decides how the function is started."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from shared.settings import Function
from tests.support.gateway import ROOT


def handler(function: Function) -> str:
    """Give its handler."""
    told: str = _of(function)["handler"]
    return told


def adapter_settings() -> dict[str, str]:
    """Give the settings of the web adapter that the stream function has."""
    environment: dict[str, str] = _of(Function.STREAM)["environment"]
    return {name: value for name, value in environment.items() if name.startswith("AWS_LWA_")}


@cache
def _of(function: Function) -> Any:
    text = (ROOT / "infra/deployment/functions" / f"{function.value}.yml").read_text(encoding="utf-8")
    # It makes nothing but texts, lists and mappings, whatever tags there are.
    return yaml.load(text, yaml.BaseLoader)  # noqa: S506
