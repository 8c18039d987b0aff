"""Whose requests to AWS a command's are: found where AWS's own tools look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from infra.cli import CommandError

_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# sqs.REGION.amazonaws.com, -fips and dual-stack alike, vpce-….sqs.REGION.vpce.amazonaws.com, and the old
# REGION.queue.amazonaws.com ("Amazon SQS endpoints and quotas").
_REGIONS: Final = (
    re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$"),
    re.compile(r"^([a-z0-9-]+)\.queue\.amazonaws\.com$"),
)


def with_aws_access(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment that names a delivery queue with a region and credentials in it.

    The region is the one in the queue's host name, for SQS takes no other; else AWS_REGION, else the profile's.
    Credentials are the environment's, else those of a profile, single sign-on or an instance. Raises CommandError.
    """
    region = region_of(environ.get("TIDEMARK_QUEUE_URL", "")) or environ.get("AWS_REGION")
    region = region or environ.get("AWS_DEFAULT_REGION")
    keys: Mapping[str, str] = {name: environ.get(name, "") for name in _KEYS}
    if not (region and keys["AWS_ACCESS_KEY_ID"] and keys["AWS_SECRET_ACCESS_KEY"]):
        region, keys = _of_session(region, keys)
    return {**environ, **keys, "AWS_REGION": region}


def region_of(queue_url: str) -> str | None:
    """Return the region that a queue's host name tells, if it is one of AWS's."""
    try:
        host = urlsplit(queue_url).hostname or ""
    except ValueError:
        return None
    matches = (pattern.search(host) for pattern in _REGIONS)
    return next((match[1] for match in matches if match is not None), None)


def _of_session(region: str | None, keys: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    # Here, for it takes a third of a second to load.
    import botocore.session  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    session = botocore.session.Session()
    try:
        region = region or session.get_config_variable("region")
        if not (keys["AWS_ACCESS_KEY_ID"] and keys["AWS_SECRET_ACCESS_KEY"]):
            found = session.get_credentials()
            if found is None:
                raise CommandError(
                    "no credentials for AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                )
            frozen = found.get_frozen_credentials()
            keys = dict(zip(_KEYS, (frozen.access_key, frozen.secret_key, frozen.token or ""), strict=True))
    except BotoCoreError as error:
        raise CommandError(f"no credentials for AWS: {error}") from None
    if not region:
        raise CommandError("no region for AWS: set AWS_REGION")
    return region, keys
