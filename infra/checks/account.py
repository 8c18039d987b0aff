"""Whether Lambda lets so much run at the same time: the account's quota, and what is reserved of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.aws_api import Aws, AwsRefusedError
from infra.checks.finding import Finding
from infra.cli import CommandError
from infra.deployed import MANAGED_STREAM, function_name

#: What AWS keeps for functions that nothing is reserved for.
UNRESERVED: Final = 100
_RAISE: Final = (
    "ask for more in the console: Service Quotas, AWS Lambda, Concurrent executions (L-B99A9384); or run the streams "
    "on instances or in containers: docs/scaling.md"
)
_RESERVED: Final = ("webhook", "stream")
#: In the place of a number: there is no such function.
_ABSENT: Final = -1


@dataclass(frozen=True, slots=True)
class AccountLook:
    """What was found, and how many streams there may be at the same time, as far as that is known."""

    findings: tuple[Finding, ...]
    streams_at_most: int | None = None


def examine_account(aws: Aws, stage: str, wanted: int | None) -> AccountLook:
    """Ask Lambda for the quota, and for what the stage's functions have of it. ``wanted`` is a number of streams."""
    try:
        limit = aws.ask("lambda", "get_account_settings")["AccountLimit"]
    except CommandError as error:
        fix = "see in the console: Service Quotas, AWS Lambda, Concurrent executions"
        return AccountLook((Finding("warn", f"account: its concurrency is not known: {error}", fix),))
    total, unreserved = int(limit["ConcurrentExecutions"]), int(limit["UnreservedConcurrentExecutions"])
    try:
        reserved = {name: _reserved(aws, function_name(stage, name)) for name in (*_RESERVED, MANAGED_STREAM)}
    except CommandError as error:
        fix = "see each function in the console: Configuration, Concurrency"
        unknown = Finding("warn", f"reserved: {error}", fix)
        return AccountLook((_quota(aws.region, total, unreserved, wanted), unknown), unreserved)
    if reserved.pop(MANAGED_STREAM) is not _ABSENT:
        what = f"{total:,} invocations at the same time in {aws.region}; streams take none, on managed instances"
        told = _reservations({"webhook": reserved["webhook"]}, None)
        return AccountLook((Finding("ok", f"account: {what}"), told))
    quota = _quota(aws.region, total, unreserved, wanted)
    if _ABSENT in reserved.values():
        # Nothing is deployed yet.
        return AccountLook((quota,), unreserved)
    streams = reserved["stream"]
    return AccountLook((quota, _reservations(reserved, wanted)), unreserved if streams is None else streams)


def _quota(region: str, total: int, unreserved: int, wanted: int | None) -> Finding:
    least = UNRESERVED + (wanted or 0)
    if wanted is not None and total < least:
        what = f"{wanted:,} streams need {wanted:,}, and {UNRESERVED} are for everything else"
        return Finding("FAIL", f"account: {total:,} invocations at the same time in {region}; {what}", _RAISE)
    if total <= UNRESERVED:
        what = "streams and pushes together, and nothing can be reserved; new accounts begin with so little"
        return Finding("warn", f"account: {total:,} invocations at the same time in {region}: {what}", _RAISE)
    what = f"{total:,} invocations at the same time in {region}, {unreserved:,} of them not reserved"
    return Finding("ok", f"account: {what}; each open stream is one")


def _reservations(reserved: Mapping[str, int | None], wanted: int | None) -> Finding:
    streams = reserved.get("stream")
    told = ", ".join(f"{name} {'nothing' if count is None else f'{count:,}'}" for name, count in reserved.items())
    if 0 in reserved.values():
        fix = "take the reservation away, or make it larger: with none at all a function never runs"
        return Finding("FAIL", f"reserved: {told}", fix)
    if wanted is not None and streams is not None and streams < wanted:
        fix = "raise reserve_stream, and deploy: Lambda answers 429 to a stream that finds no place"
        return Finding("FAIL", f"reserved: {told}; {wanted:,} streams are wanted", fix)
    if "stream" in reserved and not any(reserved.values()):
        fix = "reserve some for each (reserve_webhook, reserve_stream), once the account's quota allows"
        return Finding("warn", f"reserved: {told}: open streams may leave none for pushes", fix)
    return Finding("ok", f"reserved: {told}")


def _reserved(aws: Aws, name: str) -> int | None:
    """Return what is reserved for a function, None for nothing, ``_ABSENT`` if there is no such function."""
    try:
        count = aws.ask("lambda", "get_function_concurrency", FunctionName=name).get("ReservedConcurrentExecutions")
    except AwsRefusedError as error:
        if error.code == "ResourceNotFoundException":
            return _ABSENT
        raise
    return None if count is None else int(count)
