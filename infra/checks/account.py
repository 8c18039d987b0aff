"""Whether Lambda lets so much run at the same time: the account's quota, and what is reserved of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.aws_api import Aws, AwsRefusedError
from infra.checks.finding import Finding
from infra.cli import CommandError
from infra.deployed import function_name

#: What AWS keeps for functions that nothing is reserved for.
UNRESERVED: Final = 100
_RAISE: Final = (
    "ask for more in the console: Service Quotas, AWS Lambda, Concurrent executions (L-B99A9384); or run the streams "
    "on instances or in containers: docs/scaling.md"
)
_RESERVED: Final = ("webhook", "stream")


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
    findings = [_quota(aws.region, total, unreserved, wanted)]
    try:
        reserved = {name: _reserved(aws, function_name(stage, name)) for name in _RESERVED}
    except CommandError as error:
        fix = "see each function in the console: Configuration, Concurrency"
        findings.append(Finding("warn", f"reserved: {error}", fix))
        return AccountLook(tuple(findings), unreserved)
    except LookupError:
        # Nothing is deployed yet.
        return AccountLook(tuple(findings), unreserved)
    findings.append(_reservations(reserved, wanted))
    streams = reserved["stream"]
    return AccountLook(tuple(findings), unreserved if streams is None else streams)


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


def _reservations(reserved: dict[str, int | None], wanted: int | None) -> Finding:
    streams, webhook = reserved["stream"], reserved["webhook"]
    told = ", ".join(f"{name} {'nothing' if count is None else f'{count:,}'}" for name, count in reserved.items())
    if 0 in reserved.values():
        fix = "take the reservation away, or make it larger: with none at all a function never runs"
        return Finding("FAIL", f"reserved: {told}", fix)
    if wanted is not None and streams is not None and streams < wanted:
        fix = "raise it, and deploy: README, Deploy (a stream that finds no place is answered 429 by Lambda)"
        return Finding("FAIL", f"reserved: {told}; {wanted:,} streams are wanted", fix)
    if webhook is None and streams is None:
        fix = "reserve some for each (docs/deploy.md), once the account's quota allows"
        return Finding("warn", f"reserved: {told}: open streams may leave none for pushes", fix)
    return Finding("ok", f"reserved: {told}")


def _reserved(aws: Aws, name: str) -> int | None:
    """Return what is reserved for a function, None for nothing. Raises LookupError if there is no such function."""
    try:
        count = aws.ask("lambda", "get_function_concurrency", FunctionName=name).get("ReservedConcurrentExecutions")
    except AwsRefusedError as error:
        if error.code == "ResourceNotFoundException":
            raise LookupError(name) from None
        raise
    return None if count is None else int(count)
