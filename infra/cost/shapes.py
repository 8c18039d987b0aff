"""The four ways to run the streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra.cost.assumptions import GB, MONTH_H, MONTH_S, Assumptions
from infra.cost.line import Line
from infra.cost.load import Load
from infra.cost.prices import Prices
from infra.cost.process import Capacity, capacity, processes
from infra.cost.redis import Usage
from infra.cost.shape import NETWORK, STREAMS, Shape, aws_network, redis_gb, streamed_beyond_gb, usage_of_processes


@dataclass(frozen=True, slots=True)
class Size:
    """What one process may be given; ``usd_h`` where it has a price as a whole."""

    name: str
    vcpu: float
    mib: float
    usd_h: float = 0.0


#: Sizes of a task on ARM that are worth a thought for one event loop.
FARGATE = tuple(
    Size(f"{vcpu:g} vCPU, {gb:g} GB", vcpu, gb * 1024)
    for vcpu, gb in ((0.25, 0.5), (0.25, 1), (0.5, 1), (0.5, 2), (1, 2), (1, 4), (1, 8))
)
#: Below one vCPU an instance takes one request at a time.
CLOUD_RUN = tuple(Size(f"1 vCPU, {gib:g} GiB", 1, gib * 1024) for gib in (0.5, 1, 2, 4))

_NO_STREAMS_FROM_A_NETWORK = (
    "instances stand in your network, from where AWS says that function URLs do not stream; the adapter's own "
    "example does so on managed instances, but it was not tried here"
)

_TIGHT = "that the process and the adapter before it get along with so little memory has yet to be tried"

Way = Callable[[Assumptions, Load, Prices], Shape]


def on_lambda(given: Assumptions, load: Load, prices: Prices) -> Shape:
    """Run each stream in an environment of its own, for as long as it lives, also when its client has left unseen."""
    hours = load.stream_h + load.unseen_h
    usage = Usage.of(
        given,
        load,
        reconciles=hours * 3600 / given.reconcile_s,
        fed=load.deliveries,
        connections=given.streams * (1 + given.topics_per_stream),
    )
    gb_s = hours * 3600 * given.stream_mb / 1024
    misfits = []
    room = given.concurrency - given.unreserved
    if given.streams > room:
        misfits.append(
            f"{given.streams:,.0f} streams take {given.streams:,.0f} of the account's concurrency, and "
            f"{room:,.0f} of its {given.concurrency:,.0f} are left for them"
        )
    if given.process_mb * 1e6 / 2**20 > given.stream_mb:
        misfits.append(f"a process of {given.process_mb:g} MB does not fit into {given.stream_mb:g} MB")
    return Shape(
        "lambda",
        f"{given.streams:,.0f} environments of {given.stream_mb:g} MB, one stream each",
        (
            Line(STREAMS, "GB-seconds", gb_s, prices["lambda_gb_s"]),
            Line(STREAMS, "requests", load.opens, prices["lambda_request"]),
            Line(STREAMS, "GB beyond 6 MB a stream", streamed_beyond_gb(given, load), prices["lambda_streamed_gb"]),
            *aws_network(given, load, usage, prices),
        ),
        usage,
        tuple(misfits),
        (_TIGHT,) if given.stream_mb < 2 * given.process_mb else (),
    )


def on_managed_instances(given: Assumptions, load: Load, prices: Prices) -> Shape:
    """Run one environment with many streams on each of a few EC2 instances that Lambda manages."""

    def with_number(size: Size, each: Capacity, number: int) -> Shape:
        usage = usage_of_processes(given, load, number)
        return Shape(
            "managed",
            f"{number} x {size.name}, {each.streams:,} streams each at most ({each.why})",
            (
                Line(
                    STREAMS,
                    "instance-hours, with the fee",
                    number * MONTH_H,
                    size.usd_h * (1 + prices["managed_fee"]),
                ),
                Line(STREAMS, "requests", load.opens, prices["lambda_request"]),
                Line(
                    STREAMS, "GB beyond 6 MB a stream", streamed_beyond_gb(given, load), prices["lambda_streamed_gb"]
                ),
                Line(NETWORK, "NAT gateway hours", given.nat_gateways * MONTH_H, prices["nat_h"]),
                Line(NETWORK, "GB through NAT", _nat_gb(given, usage), prices["nat_gb"]),
                *aws_network(given, load, usage, prices),
            ),
            usage,
            doubts=(_NO_STREAMS_FROM_A_NETWORK,),
        )

    sizes = [Size(one.name, one.vcpu, one.gib * 1024, one.price.value) for one in prices.instances]
    most = prices.limit("managed_concurrency")
    return _cheapest("managed", sizes, given, load, most, given.instances_least, with_number)


def on_fargate(given: Assumptions, load: Load, prices: Prices) -> Shape:
    """Run containers behind a load balancer."""

    def with_number(size: Size, each: Capacity, number: int) -> Shape:
        usage = usage_of_processes(given, load, number)
        units_h = max(load.opens / (25 * 3600), load.stream_h / 3000, load.stream_bytes / GB)
        return Shape(
            "fargate",
            f"{number} x {size.name}, {each.streams:,} streams each at most ({each.why}), and a load balancer",
            (
                Line(STREAMS, "vCPU-hours", number * size.vcpu * MONTH_H, prices["fargate_vcpu_h"]),
                Line(STREAMS, "GB-hours", number * size.mib / 1024 * MONTH_H, prices["fargate_gb_h"]),
                Line(NETWORK, "load balancer hours", MONTH_H, prices["balancer_h"]),
                Line(NETWORK, "load balancer units", units_h, prices["balancer_lcu_h"]),
                Line(NETWORK, "address hours", (number + given.balancer_zones) * MONTH_H, prices["address_h"]),
                *aws_network(given, load, usage, prices),
            ),
            usage,
        )

    return _cheapest("fargate", FARGATE, given, load, math.inf, given.containers_least, with_number)


def on_cloud_run(given: Assumptions, load: Load, prices: Prices) -> Shape:
    """Run containers at Google, which balances the load itself; all else stays at AWS."""

    def with_number(size: Size, each: Capacity, number: int) -> Shape:
        usage = usage_of_processes(given, load, number)
        to_redis = usage.requests * given.redis_request_bytes
        return Shape(
            "cloudrun",
            f"{number} x {size.name}, {each.streams:,} streams each at most ({each.why})",
            (
                Line(STREAMS, "vCPU-seconds", number * size.vcpu * MONTH_S, prices["cloudrun_vcpu_s"]),
                Line(STREAMS, "GiB-seconds", number * size.mib / 1024 * MONTH_S, prices["cloudrun_gib_s"]),
                Line(
                    NETWORK,
                    "GB out to clients and Redis",
                    (load.stream_bytes + to_redis) / GB,
                    prices["google_out_gb"],
                ),
                Line(NETWORK, "GB out of AWS", load.replay_bytes / GB, prices["aws_out_gb"]),
            ),
            usage,
        )

    most = prices.limit("cloudrun_concurrency")
    return _cheapest("cloudrun", CLOUD_RUN, given, load, most, given.containers_least, with_number)


WAYS: dict[str, Way] = {
    "lambda": on_lambda,
    "managed": on_managed_instances,
    "fargate": on_fargate,
    "cloudrun": on_cloud_run,
}


def _nat_gb(given: Assumptions, usage: Usage) -> float:
    return redis_gb(given, usage) if given.nat_gateways else 0.0


def _cheapest(
    name: str,
    sizes: Sequence[Size],
    given: Assumptions,
    load: Load,
    most: float,
    least: float,
    with_number: Callable[[Size, Capacity, int], Shape],
) -> Shape:
    """Take the size of process, and so many of it as are needed, that cost least together."""
    shapes = []
    for size in sizes:
        each = capacity(given, load, vcpu=size.vcpu, mib=size.mib, most=most)
        number = processes(given, each, least=least)
        if number is not None:
            shapes.append(with_number(size, each, number))
    if not shapes:
        each = capacity(given, load, vcpu=sizes[-1].vcpu, mib=sizes[-1].mib, most=most)
        why = f"no number of processes is enough: one bears no stream ({each.why})"
        return Shape(name, "nothing", (), usage_of_processes(given, load, 0), (why,))
    return min(shapes, key=lambda shape: shape.usd)
