"""What Redis is asked for in a month, and which of Upstash's plans can take it."""

from __future__ import annotations

from dataclasses import dataclass

from infra.cost.assumptions import DAYS, GB, MONTH_S, Assumptions
from infra.cost.line import Line, total
from infra.cost.load import Load
from infra.cost.prices import Plan, Prices

PART = "Redis (Upstash)"


@dataclass(frozen=True, slots=True)
class Usage:
    """Billed commands and requests a month, commands in the busiest second, GB kept and out, connections at once."""

    commands: float
    requests: float
    commands_s: float
    stored_gb: float
    out_gb: float
    connections: float

    @classmethod
    def of(cls, given: Assumptions, load: Load, *, reconciles: float, fed: float, connections: float) -> Usage:
        """Reckon it. ``reconciles`` a month, and ``fed``: events that all processes together read from live feeds."""
        each_open = given.commands_per_open + (given.topics_per_stream - 1) * given.commands_per_topic
        evenly = load.opens * each_open + reconciles * given.commands_per_reconcile
        in_bursts = (
            load.received * given.commands_per_push
            + load.pushes * given.confirm * given.commands_per_confirmation
            + load.acks * given.commands_per_ack
            + load.replays * given.commands_per_replay
        )
        # A push is one request and one for its rate limit, an ack and a replay likewise; a stream that opens makes
        # three, for limit, slot and read, and one that ends gives its slot back.
        asked = 2 * (load.received + load.acks + load.replays) + 4 * load.opens + reconciles
        asked += load.pushes * given.confirm
        return cls(
            commands=in_bursts + evenly,
            requests=asked,
            commands_s=in_bursts / MONTH_S * given.peak + evenly / (MONTH_S * given.hours / 24),
            stored_gb=load.pushes / DAYS * given.retention_h / 24 * given.stored_bytes_per_push / GB,
            out_gb=(asked * given.redis_answer_bytes + fed * given.event_bytes) / GB,
            connections=connections,
        )


@dataclass(frozen=True, slots=True)
class PlanCost:
    """What a plan costs under a load, and why it cannot take it, if it cannot."""

    plan: Plan
    lines: tuple[Line, ...]
    misfits: tuple[str, ...]

    @property
    def usd(self) -> float:
        """What it comes to."""
        return total(self.lines)


def plan_cost(plan: Plan, usage: Usage, given: Assumptions, prices: Prices) -> PlanCost:
    """Price one plan."""
    lines = []
    if plan.per_command:
        lines += [
            Line(PART, "commands", usage.commands, prices["upstash_command"]),
            Line(PART, "GB kept", max(0.0, usage.stored_gb - plan.free_stored_gb), prices["upstash_stored_gb"]),
            Line(PART, "GB out", max(0.0, usage.out_gb - plan.free_out_gb), prices["upstash_out_gb"]),
        ]
    else:
        lines.append(Line(PART, plan.name, 1, plan.price.value))
    lines.append(Line(PART, "Prod Pack", given.prod_pack, prices["upstash_prod_pack"]))
    limits = {
        "GB kept": (usage.stored_gb, plan.stored_gb),
        "GB out": (usage.out_gb, plan.out_gb),
        "commands a second": (usage.commands_s, plan.commands_s),
    }
    misfits = tuple(
        f"{needed:,.2f} {what} are more than {given.redis_use:.0%} of its {limit:,g}"
        for what, (needed, limit) in limits.items()
        if needed > limit * given.redis_use
    )
    return PlanCost(plan, tuple(lines), misfits)
