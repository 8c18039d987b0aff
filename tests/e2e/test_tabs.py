"""Four tabs of one user, where three may be open: one gives way, is told so in words, and stays away.

Chromium's own EventSource, with nothing around it, and the local page. What was asked for is counted in the browser:
an EventSource that came back by itself would do so within two seconds, and take the place of another one, for ever.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.support.browser import Tab, find_browser, launched, profile
from tests.support.dev_process import DevProcess
from tests.support.gateway import eventually
from tests.support.require import require

LONG = os.environ.get("TIDEMARK_TEST_LONG") == "1"
#: How long it is watched that nobody comes back. The `retry:` of a stream is two seconds.
QUIET_S = 60.0 if LONG else 12.0
TABS = 4
EVICTED = {"reason": "evicted", "reconnect": False}
SUPERSEDED = {"reason": "superseded", "reconnect": False}

_TOKEN = """async ([user, topics]) => {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ user, topics });
  return (await (await fetch("/dev/token", { method: "POST", headers, body })).json()).token;
}"""
_MAIL = """async (mailbox) => {
  const headers = { "Content-Type": "application/json" };
  return await (await fetch("/dev/mail", { method: "POST", headers, body: JSON.stringify({ mailbox }) })).json();
}"""
#: What a script without any care does: it listens, closes nothing and opens nothing again.
_OPEN = """(url) => {
  const source = new EventSource(url);
  const heard = [];
  for (const name of ["tidemark.hello", "message", "tidemark.gap", "tidemark.bye"])
    source.addEventListener(name, ({ data }) => heard.push([name, JSON.parse(data)]));
  (window.streams ??= []).push({ source, heard });
}"""


class Profile:
    """A browser profile, and how often its tabs asked for a stream."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.mailbox = f"m{uuid.uuid4().hex[:8]}@example.com"
        #: How often one of its tabs was told to.
        self.meant = 0
        self._asked = 0
        context.on("request", self._on_request)

    def _on_request(self, request: Request) -> None:
        self._asked += urlsplit(request.url).path == "/events"

    def asked(self) -> int:
        """Return how often a stream was asked for so far."""
        for page in self.context.pages:
            page.evaluate("0")  # what was noted before this answer has been heard
        return self._asked


class NativeTab:
    """A tab of the origin with nothing of ours in it but native EventSources."""

    def __init__(self, owner: Profile) -> None:
        self.page = owner.context.new_page()
        self.page.goto("/healthz")
        self._owner = owner
        self._streams = 0

    def open(self, token: str, client: str | None) -> NativeStream:
        """Open an EventSource, and wait until it is open."""
        query = {"token": token} | ({} if client is None else {"client": client})
        self.page.evaluate(_OPEN, f"/events?{urlencode(query)}")
        self._owner.meant += 1
        stream = NativeStream(self.page, self._streams)
        self._streams += 1
        eventually(lambda: len(stream.heard("tidemark.hello")) == 1, "the stream is open")
        return stream

    def reload(self) -> None:
        """Begin anew, as a reload does: the browser drops what was open."""
        self.page.reload()
        self._streams = 0


class NativeStream:
    """One of the EventSources of a tab."""

    def __init__(self, page: Page, index: int) -> None:
        self._page = page
        self._index = index

    def heard(self, name: str) -> list[dict[str, Any]]:
        """Return what came under a name so far."""
        heard = self._page.evaluate("(index) => window.streams[index].heard", self._index)
        return [data for frame, data in heard if frame == name]

    def is_open(self) -> bool:
        return bool(self._page.evaluate("(index) => window.streams[index].source.readyState === 1", self._index))

    def expect_end(self, last_word: dict[str, Any]) -> None:
        """Wait until it ends; this is the last that it heard, and it waits to come back, for it was not closed."""
        eventually(lambda: not self.is_open(), "the stream has ended")
        assert self.heard("tidemark.bye") == [last_word]


class NativeTabs(Profile):
    """Native tabs of one user, with a stream each, opened one after the other."""

    def __init__(self, context: BrowserContext, *clients: str | None) -> None:
        super().__init__(context)
        self.tabs = [NativeTab(self) for _ in clients]
        user = f"user-{uuid.uuid4().hex[:8]}"
        self.token: str = self.tabs[0].page.evaluate(_TOKEN, [user, [f"gmail:{self.mailbox}"]])
        self.streams = [tab.open(self.token, client) for tab, client in zip(self.tabs, clients, strict=True)]

    def send_mail(self) -> str:
        """Have a mail pushed; return the id of its message."""
        sent = self.tabs[0].page.evaluate(_MAIL, self.mailbox)
        assert sent["status"] == "published", sent
        return str(sent["message_id"])

    def expect_event(self, message_id: str, *streams: NativeStream) -> None:
        eventually(lambda: all(stream.heard("message") for stream in streams), "the mail is there")
        for stream in streams:
            assert [envelope["id"] for envelope in stream.heard("message")] == [message_id]


class PageTabs(Profile):
    """The local page four times, one after the other."""

    def __init__(self, context: BrowserContext) -> None:
        super().__init__(context)
        self.tabs = [Tab(context.new_page()) for _ in range(TABS)]
        for tab in self.tabs:
            tab.visit(self.mailbox)
            self.meant += 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless Chromium."""
    require(find_browser() is not None, "Chromium")
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def dev(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """Give the local stack, where a user may have as many streams as is usual."""
    assert browser.is_connected()  # without a browser it is not even started
    with DevProcess.running(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def unnamed(browser: Browser, dev: DevProcess) -> Iterator[NativeTabs]:
    """Give four native tabs that say no ``client=``."""
    with profile(browser, dev.url) as context:
        yield NativeTabs(context, *[None] * TABS)


@pytest.fixture(scope="module")
def named(browser: Browser, dev: DevProcess) -> Iterator[NativeTabs]:
    """Give four native tabs, each with a ``client=`` of its own."""
    with profile(browser, dev.url) as context:
        yield NativeTabs(context, *[f"tab-{n}" for n in range(TABS)])


@pytest.fixture(scope="module")
def as_many_as_may_be(browser: Browser, dev: DevProcess) -> Iterator[NativeTabs]:
    """Give native tabs that have all the streams that a user may have."""
    with profile(browser, dev.url) as context:
        yield NativeTabs(context, *[f"tab-{n}" for n in range(TABS - 1)])


@pytest.fixture(scope="module")
def pages(browser: Browser, dev: DevProcess) -> Iterator[PageTabs]:
    """Give four tabs with the local page. None of them may have complained in the end."""
    with profile(browser, dev.url) as context:
        tabs = PageTabs(context)
        yield tabs
        assert [tab.complaints() for tab in tabs.tabs] == [[]] * TABS


@pytest.mark.parametrize("kind", ["unnamed", "named"])
def test_the_fourth_tab_evicts_the_first_and_the_other_three_get_the_mail(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """With names or without. The one that gave way heard why, and that it is to stay away, and no mail."""
    native: NativeTabs = request.getfixturevalue(kind)
    first, *others = native.streams

    first.expect_end(EVICTED)
    message_id = native.send_mail()

    native.expect_event(message_id, *others)
    assert first.heard("message") == []
    for stream in others:
        assert stream.is_open()
        assert stream.heard("tidemark.bye") == []


def test_a_tab_that_opens_its_stream_again_takes_it_from_itself_and_from_nobody_else(
    as_many_as_may_be: NativeTabs,
) -> None:
    """Whether its old stream is still open or went with a reload. By its name it is told from one more tab."""
    native = as_many_as_may_be
    first, *others = native.streams

    again = native.tabs[0].open(native.token, "tab-0")

    first.expect_end(SUPERSEDED)
    native.tabs[1].reload()
    reloaded = native.tabs[1].open(native.token, "tab-1")
    message_id = native.send_mail()
    open_now = (again, reloaded, *others[1:])
    native.expect_event(message_id, *open_now)
    assert [stream.heard("tidemark.bye") for stream in open_now] == [[], [], []]
    assert first.heard("message") == []


def test_the_page_that_gave_way_says_so_and_what_can_be_done_and_its_button_has_the_next_one_give_way(
    pages: PageTabs,
) -> None:
    """Nothing is missed by the one that goes on: what came while it was away is caught up."""
    first, second, *others = pages.tabs
    first.expect_state("closed")
    expect(first.part("state")).to_contain_text("this user opened more streams than allowed at once")
    expect(first.part("advice")).to_contain_text("Close a tab that you no longer need.")
    # For one that was cut off this is a reason to come back.
    first.page.evaluate("dispatchEvent(new Event('online'))")

    second.part("send").click()

    for tab in (second, *others):
        tab.expect_text("count", "1")
        tab.expect_state("live")
    assert (first.text("count"), pages.asked()) == ("0", TABS)

    first.part("resume").click()
    pages.meant += 1

    first.expect_state("live")
    first.expect_text("count", "1")
    expect(first.part("events")).to_contain_text("newer streams of this user had taken its place · 1 event caught up")
    second.expect_state("closed")
    expect(second.part("state")).to_contain_text("evicted")
    for tab in others:
        tab.expect_state("live")


def test_the_copy_of_a_page_takes_its_stream_and_the_button_has_both_open(browser: Browser, dev: DevProcess) -> None:
    """A browser's "duplicate tab" copies the client's name as well: the original takes a new one and goes on."""
    with profile(browser, dev.url) as context:
        tabs = Profile(context)
        original, copy = Tab(context.new_page()), Tab(context.new_page())
        original.visit(tabs.mailbox)
        name = original.page.evaluate("sessionStorage.getItem('tidemark.client')")
        copy.page.add_init_script(f"sessionStorage.setItem('tidemark.client', {json.dumps(name)})")

        copy.visit(tabs.mailbox)

        original.expect_state("closed")
        expect(original.part("state")).to_contain_text("another tab with the same name took over")
        expect(original.part("advice")).to_contain_text("Go on gives this tab a name of its own")
        original.part("resume").click()
        original.expect_state("live")
        copy.part("send").click()
        for tab in (original, copy):
            tab.expect_text("count", "1")
            tab.expect_state("live")
            assert tab.complaints() == []
        assert original.page.evaluate("sessionStorage.getItem('tidemark.client')") != name
        assert tabs.asked() == 3


def test_none_of_those_that_gave_way_comes_back_by_itself(
    unnamed: NativeTabs, named: NativeTabs, as_many_as_may_be: NativeTabs, pages: PageTabs
) -> None:
    """For six times the usual `retry:` nobody asks for a stream who was not told to."""
    profiles = (unnamed, named, as_many_as_may_be, pages)
    until = time.monotonic() + QUIET_S
    while time.monotonic() < until:
        unnamed.tabs[0].page.wait_for_timeout(500)
        assert [tabs.asked() for tabs in profiles] == [tabs.meant for tabs in profiles]
