"""Everything that `tidemark doctor` looks at, in its order: of a deployment, or else of the running local stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from infra.aws_access import region_of, with_aws_access
from infra.aws_api import Aws
from infra.backends import LOG_URL, QUEUE_URLS, of_local_stack
from infra.checks.account import AccountLook, examine_account
from infra.checks.clients import Visitor
from infra.checks.finding import Finding
from infra.checks.keys import examine_keys
from infra.checks.log import examine_log
from infra.checks.origin import Origins, examine_origins
from infra.checks.queues import examine_queues
from infra.checks.upstash_account import examine_upstash_account
from infra.cli import CommandError
from infra.local.data_dir import DataDir
from infra.local.push_signer import genuine_pushes
from shared.errors import SettingsError
from shared.settings import Function, Settings


class Examination:
    """One look. ``url`` is where every function is; so many ``streams`` are wanted at the same time, on Lambda."""

    def __init__(
        self, directory: DataDir, environ: Mapping[str, str], *, url: str | None = None, streams: int | None = None
    ) -> None:
        self._directory = directory
        self._running = directory.running()
        self._environ = environ
        self._url = url
        self._streams = streams

    async def findings(self) -> AsyncIterator[Finding]:
        """Look, and tell of each thing when it was looked at."""
        look = await asyncio.to_thread(self._account) if self._is_at_aws() else AccountLook(())
        for finding in look.findings:
            yield finding
        for finding in self._find_access():
            yield finding
        settings: Settings | None = None
        try:
            settings = Settings.of(self._environ, Function.LOCAL)
        except SettingsError as error:
            for finding in self._missing(error):
                yield finding
        else:
            yield Finding("ok", f"settings: stage {settings.stage}, {settings.retention_s} s of retention")
            for examine in (examine_log, examine_queues, examine_keys):
                async for finding in examine(settings):
                    yield finding
            async for finding in examine_upstash_account(self._environ, settings.redis_url, look.streams_at_most):
                yield finding
        verified = settings is not None and settings.push_auth is not None
        async for finding in examine_origins(self._origins(), _visitor(settings), verified=verified):
            yield finding

    def _is_at_aws(self) -> bool:
        """Whether a deployment at AWS is looked at, or an account before its first one; and no local stack."""
        if any(self._environ.get(name) for name in QUEUE_URLS):
            at_aws = region_of(self._environ.get(QUEUE_URLS[0], "")) is not None
            return at_aws or bool(self._environ.get("AWS_ENDPOINT_URL"))
        elsewhere = self._running is None or bool(self._environ.get(LOG_URL))
        named = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE")
        return elsewhere and any(self._environ.get(name) for name in named)

    def _account(self) -> AccountLook:
        region = region_of(self._environ.get(QUEUE_URLS[0], ""))
        stage = self._environ.get("TIDEMARK_STAGE") or "dev"
        try:
            return examine_account(Aws(self._environ, region), stage, self._streams)
        except CommandError as error:
            return AccountLook((Finding("warn", f"account: {error}", "without it the quota cannot be looked at"),))

    def _find_access(self) -> list[Finding]:
        """Add to the environment what is needed besides, for the queues or of the local stack."""
        environ = self._environ
        if any(environ.get(name) for name in QUEUE_URLS):
            try:
                self._environ = with_aws_access(environ)
            except CommandError as error:
                self._environ = {name: value for name, value in environ.items() if name not in QUEUE_URLS}
                return [Finding("FAIL", f"queues: {error}", "without them nothing can be said of the queues")]
        elif not environ.get(LOG_URL) and self._running is not None:
            self._environ = {**environ, **self._of_local_stack(self._running)}
        return []

    def _of_local_stack(self, running: Mapping[str, Any]) -> dict[str, str]:
        token_keys = self._directory.token_keys(self._environ)
        return {
            **of_local_stack(running, self._directory),
            "TIDEMARK_TOKEN_KEYS": ",".join(f"{kid}:{key}" for kid, key in token_keys.items()),
            "TIDEMARK_PUSH_AUTH": str(running["push_auth"]),
            **genuine_pushes(str(running["url"]), self._environ),
        }

    def _missing(self, error: SettingsError) -> list[Finding]:
        told = [Finding("FAIL", str(error), "set them (see the README's table of settings)")]
        if self._running is None and not self._environ.get(LOG_URL):
            what = f"no local stack runs on {self._directory.path}, and {LOG_URL} is not set"
            fix = 'start the stack: make demo, or tidemark dev; for a deployment: eval "$(tidemark env STAGE)"'
            told.insert(0, Finding("FAIL", what, fix))
        return told

    def _origins(self) -> Origins:
        named = Origins.of(self._environ)
        if self._url is not None:
            # The browser's origin takes no pushes.
            return Origins(None, self._url, self._url) if self._url == named.browser else Origins.one(self._url)
        if any(named.names()) or self._running is None:
            return named
        return Origins.one(str(self._running["url"]))


def _visitor(settings: Settings | None) -> Visitor | None:
    if settings is None:
        return None
    kid, key = next(iter(settings.token_keys.items()))
    return Visitor(kid, key, next(iter(settings.cors_origins), None))
