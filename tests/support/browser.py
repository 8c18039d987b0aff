"""The page in headless Chromium: a browser, and a tab that says what it shows and what it complained about.

    with launched() as browser, opened(browser, stack.url) as tab:
        tab.visit("ann@example.com")
        tab.button("send").click()

This is Playwright's synchronous interface, which cannot be used inside a running event loop: tests of it are plain
functions.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_VIEWPORT_PX = (1280, 1000)
_START_MS = 20_000
#: How Chromium reports a request that failed or was refused, of its own accord.
_FAILED_REQUEST = "Failed to load resource: "
#: The console says it as well, but not everywhere in words that can be told from others.
_TELL_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.effectiveDirective} ${event.blockedURI}`));"""


def find_browser() -> str | None:
    """Find a Chromium on the PATH; None without one."""
    return next((path for path in map(shutil.which, _NAMES) if path is not None), None)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser that `find_browser` finds, and stop it for sure."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=_ARGUMENTS, timeout=_START_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def profile(browser: Browser, origin: str) -> Iterator[BrowserContext]:
    """Give a browser profile: its tabs are one user of the page."""
    width, height = _VIEWPORT_PX
    context = browser.new_context(base_url=origin, viewport={"width": width, "height": height})
    try:
        context.add_init_script(_TELL_VIOLATIONS)
        yield context
    finally:
        context.close()


@contextlib.contextmanager
def opened(browser: Browser, origin: str) -> Iterator[Tab]:
    """Open a tab of a browser profile of its own: no other tab shares its user, its client name or its cursors."""
    with profile(browser, origin) as context:
        yield Tab(context.new_page())


@dataclass(frozen=True, slots=True)
class Row:
    """An event as the page shows it. `live` is false for what was caught up."""

    id: str
    source: str
    position: str
    history_id: str
    topic: str
    delay_ms: int
    live: bool
    words: str


@dataclass(frozen=True, slots=True)
class GapRow:
    """A gap as the page shows it, and how many events are shown below it, which is before it."""

    topic: str
    after: str
    resume: str
    events_before: int


class Tab:
    """The page in one browser tab. Its elements go by their test ids."""

    def __init__(self, page: Page) -> None:
        self.page = page
        #: The browser reports failed requests by itself; a test that makes requests fail says so here.
        self.requests_may_fail = False
        self._complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complaints.append(f"uncaught: {error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            path = message.location["url"].partition("?")[0]  # the query holds the token
            self._complaints.append(f"{message.text} ({path})")

    def complaints(self) -> list[str]:
        """Return every console error, uncaught exception and policy violation so far."""
        self.page.evaluate("0")  # what was said before this answer has been heard
        return [
            complaint
            for complaint in self._complaints
            if not (self.requests_may_fail and complaint.startswith(_FAILED_REQUEST))
        ]

    def forget_complaints(self) -> None:
        """Begin anew: what was said so far was meant."""
        self.complaints()
        self._complaints.clear()

    def visit(self, *mailboxes: str, start: str | None = None) -> None:
        """Open the page with some mailboxes followed; return when the stream is live."""
        query = [("mailbox", mailbox) for mailbox in mailboxes]
        query += [("from", start)] if start is not None else []
        self.page.goto(f"/?{urlencode(query)}")
        if mailboxes:
            self.expect_state("live")

    def part(self, test_id: str) -> Locator:
        """Return an element of the page."""
        return self.page.get_by_test_id(test_id)

    def text(self, test_id: str) -> str:
        """Return what an element says now."""
        return self.part(test_id).inner_text()

    def expect_text(self, test_id: str, text: str, *, within_ms: int = 5_000) -> None:
        """Wait until an element says exactly this."""
        expect(self.part(test_id)).to_have_text(text, timeout=within_ms)

    def expect_state(self, state: str, *, within_ms: int = 5_000) -> None:
        """Wait until the stream is in this state; `live · …` is `live`."""
        expect(self.part("state").locator("strong")).to_have_text(state, timeout=within_ms)

    def expect_event(self, message_id: str, *, within_ms: int = 5_000) -> None:
        """Wait until an event is shown."""
        row = self.part("events").locator(f'.event[data-id="{message_id}"]').first
        expect(row).to_be_visible(timeout=within_ms)

    def events(self) -> list[Row]:
        """Return the events shown now, oldest first."""
        rows: list[dict[str, Any]] = (
            self.part("events")
            .locator(".event")
            .evaluate_all(
                """rows => rows.map((row) => ({
                 ...row.dataset, words: row.innerText, late: row.querySelector(".late") !== null }))"""
            )
        )
        return [
            Row(
                id=row["id"],
                source=row["source"],
                position=row["position"],
                history_id=row["historyId"],
                topic=row["topic"],
                delay_ms=int(row["delayMs"]),
                live=not row["late"],
                words=row["words"],
            )
            for row in reversed(rows)
        ]

    def gaps(self) -> list[GapRow]:
        """Return the gaps shown now, oldest first."""
        rows: list[dict[str, Any]] = (
            self.part("events")
            .locator(".gap[data-topic]")
            .evaluate_all(
                """rows => rows.map((row) => {
                 const all = [...row.parentElement.children];
                 const older = all.slice(all.indexOf(row)).filter((other) => other.matches(".event"));
                 return {...row.dataset, before: older.length}; })"""
            )
        )
        return [
            GapRow(topic=row["topic"], after=row["after"], resume=row["resume"], events_before=row["before"])
            for row in reversed(rows)
        ]
