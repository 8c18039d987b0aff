"""The prices, read from one dated file."""

from __future__ import annotations

import datetime as dt
import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Price:
    """A price in USD a unit, or a limit in units: where it holds, who says so, and when that was read."""

    value: float
    unit: str
    region: str
    source: str
    looked_up: dt.date
    confirmed: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A kind of machine that Managed Instances are made of; its price is for an hour."""

    name: str
    price: Price
    vcpu: float
    gib: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of Upstash's; its price is for a month. GB and commands a second are what fits into it."""

    name: str
    price: Price
    stored_gb: float
    commands_s: float
    out_gb: float = math.inf
    per_command: bool = False
    free_stored_gb: float = 0.0
    free_out_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """All of them. A price is had by its name: ``prices["lambda_gb_s"]``."""

    dated: dt.date
    by_name: Mapping[str, Price]
    limits: Mapping[str, Price]
    instances: tuple[Instance, ...]
    plans: tuple[Plan, ...]

    def __getitem__(self, name: str) -> float:
        return self.by_name[name].value

    def limit(self, name: str) -> float:
        """Return a limit's value."""
        return self.limits[name].value

    @property
    def entries(self) -> dict[str, Price]:
        """Every price and limit under a name of its own."""
        named = {instance.name: instance.price for instance in self.instances}
        return {**self.by_name, **named, **{plan.name: plan.price for plan in self.plans}, **self.limits}


_PRICE = ("value", "unit", "region", "source", "looked_up", "confirmed", "note")


@cache
def known_prices() -> Prices:
    """Read the file that comes with the command."""
    text = (importlib.resources.files("infra.cost") / "prices.toml").read_text(encoding="utf-8")
    return prices_of(tomllib.loads(text))


def prices_of(told: Mapping[str, Any]) -> Prices:
    """Take what such a file holds. Raises KeyError or TypeError if something is missing or unknown."""
    return Prices(
        dated=told["dated"],
        by_name={name: Price(**entry) for name, entry in told["price"].items()},
        limits={name: Price(**entry) for name, entry in told["limit"].items()},
        instances=tuple(Instance(name, _price(entry), **_rest(entry)) for name, entry in told["instance"].items()),
        plans=tuple(Plan(name, _price(entry), **_rest(entry)) for name, entry in told["plan"].items()),
    )


def _price(entry: Mapping[str, Any]) -> Price:
    return Price(**{name: value for name, value in entry.items() if name in _PRICE})


def _rest(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in _PRICE}
