"""Four tabs of one user in a browser, where three may have a stream: nobody fights for one.

A native EventSource comes back by itself two seconds after its stream has ended, whatever the reason. All tabs are
opened first, left alone for a while together, and then looked at.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request

from tests.support.browser import Tab, find_browser, launched
from tests.support.dev_process import DevProcess
from tests.support.gateway import NO_TLS, eventually
from tests.support.require import require

LONG = os.environ.get("TIDEMARK_TEST_LONG") == "1"
#: A loop of tabs that evict each other would go round every two seconds.
LEFT_ALONE_S = 60.0 if LONG else 7.0
#: A page of the origin that does nothing by itself.
BLANK = "/openapi.json"
EVICTED = {"reason": "evicted", "reconnect": False}
SUPERSEDED = {"reason": "superseded", "reconnect": False}

_FOLLOW = """(url) => {
  const told = (window.told = { hello: [], bye: [], events: [], errors: 0 });
  const source = new EventSource(url);
  for (const name of ["hello", "bye"])
    source.addEventListener(`tidemark.${name}`, (frame) => told[name].push(JSON.parse(frame.data)));
  source.addEventListener("message", (frame) => told.events.push(JSON.parse(frame.data).position));
  source.addEventListener("error", () => (told.errors += 1));
}"""


class Followers:
    """Pages of one user in a browser profile of its own, each with a native EventSource."""

    def __init__(self, context: BrowserContext, url: str, http: httpx.Client, user: str) -> None:
        self.mailbox = f"{user}@example.com"
        self._context = context
        self._url = url
        topic = f"gmail:{self.mailbox}"
        answer = http.post("/dev/token", json={"topics": [topic], "user": user})
        self._token = answer.raise_for_status().json()["token"]
        self.pages: list[Page] = []
        self._requests: Counter[Page] = Counter()
        context.on("request", self._count)

    def _count(self, request: Request) -> None:
        if urlsplit(request.url).path == "/events":
            self._requests[request.frame.page] += 1

    def open(self, client: str | None = None) -> Page:
        """Open one more and return when it has been greeted."""
        page = self._context.new_page()
        self.pages.append(page)
        page.goto(self._url + BLANK)
        self.follow(page, client)
        return page

    def follow(self, page: Page, client: str | None) -> None:
        """Have a page follow the mailbox, beside what it follows already; return when it has been greeted."""
        query = {"token": self._token} | ({} if client is None else {"client": client})
        page.evaluate(_FOLLOW, f"/events?{urlencode(query)}")
        page.wait_for_function("window.told.hello.length > 0", timeout=10_000)

    def told(self) -> list[dict[str, Any]]:
        """Return what the last EventSource of each page has heard."""
        return [page.evaluate("window.told") for page in self.pages]

    def requests(self) -> list[int]:
        """Return how often each page has asked for a stream, by itself or because its EventSource came back."""
        return [self._requests[page] for page in self.pages]


@dataclass(frozen=True, slots=True)
class Scene:
    """What was opened, and what a mail that came in the end was published at, by mailbox."""

    nameless: Followers
    named: Followers
    returning: Followers
    doubled: dict[str, Any]
    tabs: Sequence[Tab]
    positions: dict[str, str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Open everything, leave it alone, and send a mail to each mailbox."""
    require(find_browser() is not None, "Chromium")
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(launched())
        dev = stack.enter_context(DevProcess.running(tmp_path_factory.mktemp("dev") / "data"))
        http = stack.enter_context(httpx.Client(base_url=dev.url, timeout=10, verify=NO_TLS, trust_env=False))

        def followers(user: str) -> Followers:
            return Followers(browser.new_context(), dev.url, http, user)

        nameless = followers("nameless")
        for _ in range(4):
            nameless.open()
        named = followers("named")
        for number in range(4):
            named.open(f"tab{number}")
        returning = followers("returning")
        for number in range(3):
            returning.open(f"tab{number}")
        reloaded, doubled = returning.pages[:2]
        reloaded.reload()
        returning.follow(reloaded, "tab0")
        doubled.evaluate("window.first = window.told")
        returning.follow(doubled, "tab1")
        tabs = _tabs(browser, dev.url)
        time.sleep(LEFT_ALONE_S)
        boxes = [nameless.mailbox, named.mailbox, returning.mailbox, "tabs@example.com"]
        mails = {box: http.post("/dev/mail", json={"mailbox": box}).raise_for_status().json() for box in boxes}
        positions = {box: mail["id"] for box, mail in mails.items()}
        eventually(lambda: _have(named, positions) and _have(nameless, positions), "the mails are there")
        yield Scene(nameless, named, returning, doubled.evaluate("window.first"), tabs, positions)


def _tabs(browser: Browser, url: str) -> list[Tab]:
    """Open the local page four times, in one profile: one user, and a client name for each."""
    context = browser.new_context(base_url=url)
    tabs = [Tab(context.new_page()) for _ in range(4)]
    for tab in tabs:
        tab.visit("tabs@example.com")
    return tabs


def _have(followers: Followers, positions: dict[str, str]) -> bool:
    return all(told["events"] == [positions[followers.mailbox]] for told in followers.told()[1:])


@pytest.mark.parametrize("which", ["nameless", "named"])
def test_of_four_native_tabs_three_stay_and_the_first_is_evicted_for_good(scene: Scene, which: str) -> None:
    """Whether they name themselves or not. Each has asked once: nobody has come back."""
    followers: Followers = getattr(scene, which)
    first, *others = followers.told()
    assert first["bye"] == [EVICTED]
    assert [told["bye"] for told in others] == [[], [], []]
    assert followers.requests() == [1, 1, 1, 1]
    assert [len(told["hello"]) for told in (first, *others)] == [1, 1, 1, 1]
    # The end of its body is an error to the first one: it would come back, in an hour.
    assert [told["errors"] for told in (first, *others)] == [1, 0, 0, 0]
    assert first["events"] == []
    assert [told["events"] for told in others] == [[scene.positions[followers.mailbox]]] * 3


def test_a_tab_that_comes_back_by_its_name_takes_its_own_place(scene: Scene) -> None:
    """Reloaded, or opened a second time beside itself: nobody else is evicted, and the two do not fight."""
    followers = scene.returning
    assert followers.requests() == [2, 2, 1]
    assert [told["bye"] for told in followers.told()] == [[], [], []]
    assert [len(told["hello"]) for told in followers.told()] == [1, 1, 1]
    assert (scene.doubled["bye"], scene.doubled["errors"]) == ([SUPERSEDED], 1)
    eventually(lambda: _have(followers, scene.positions), "all three have the mail")


def test_the_local_page_says_which_tab_was_evicted_and_it_stays_so(scene: Scene) -> None:
    """In words; the others go on, and none has come back."""
    first, *others = scene.tabs
    first.expect_state("closed")
    assert first.text("state") == "closed · evicted: you opened more streams than one user may have"
    for tab in others:
        tab.expect_text("count", "1")
        assert tab.text("state") == "live · following one mailbox"
    for tab in scene.tabs:
        assert tab.text("reconnects") == "0"
        assert tab.complaints() == []
    others[0].page.reload()
    others[0].expect_state("live")
    for tab in others[1:]:
        assert tab.text("state") == "live · following one mailbox"
