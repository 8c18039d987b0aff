"""Which log and which queues a command works on: a deployment's, else those of the running local stack."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from infra.aws_access import with_aws_access
from infra.cli import CommandError
from infra.local.data_dir import DataDir
from infra.local.queues import queue_settings
from shared.errors import SettingsError
from shared.settings import AwsAccess, Function, Queues, Settings
from shared.sqs import Sqs

LOG_URL: Final = "UPSTASH_REDIS_REST_URL"
QUEUE_URLS: Final = ("TIDEMARK_QUEUE_URL", "TIDEMARK_DEAD_LETTER_URL")


def backends(directory: DataDir, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment, with where the log and the queues are in it. Raises CommandError.

    An environment that names one of them is a deployment's, and is taken whole: never half of it and half of the
    local stack.
    """
    if any(environ.get(name) for name in (LOG_URL, *QUEUE_URLS)):
        return environ
    running = directory.running()
    if running is None:
        raise CommandError(
            f"no local stack runs on {directory.path}, and the environment names no deployment ({LOG_URL}, "
            f"{', '.join(QUEUE_URLS)}): nothing is done"
        )
    return {**environ, **of_local_stack(running, directory)}


def of_local_stack(running: Mapping[str, Any], directory: DataDir) -> dict[str, str]:
    """Return the settings that say where the running local stack's log and queues are."""
    token = directory.keys().gateway_token
    return {
        LOG_URL: str(running["gateway_url"]),
        "UPSTASH_REDIS_REST_TOKEN": token,
        **queue_settings(str(running["queue_url"]), token),
    }


def log_settings(environ: Mapping[str, str]) -> Settings:
    """Read what a command needs to work on the log. Raises CommandError."""
    # A command takes no pushes and is no function of Lambda's, wherever it runs; the queues are another's concern.
    unused = ("AWS_LAMBDA_FUNCTION_NAME", "TIDEMARK_CONFIRM_S", *QUEUE_URLS)
    relevant = {name: value for name, value in environ.items() if name not in unused}
    try:
        return Settings.of({**relevant, "TIDEMARK_PUSH_AUTH": "off"}, Function.WEBHOOK)
    except SettingsError as error:
        raise CommandError(str(error)) from None


def queues(environ: Mapping[str, str]) -> Queues:
    """Read what a command needs to work on the queues. Raises CommandError."""
    if not all(environ.get(name) for name in QUEUE_URLS):
        raise CommandError(f"the queues are not known: set {' and '.join(QUEUE_URLS)}")
    try:
        return Queues.of(with_aws_access(environ))
    except SettingsError as error:
        raise CommandError(str(error)) from None


@contextlib.asynccontextmanager
async def open_queue(url: str, access: AwsAccess) -> AsyncIterator[Sqs]:
    """Give a client of a queue, and close it at the end."""
    sqs = Sqs(url, access)
    try:
        yield sqs
    finally:
        await sqs.close()
