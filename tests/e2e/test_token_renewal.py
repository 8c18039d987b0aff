"""A token is renewed before it expires, and what comes of one that expires all the same: nothing is missed.

Two clients in Chromium, against the real stack: the page, and the snippet of the README's "Renewing a token", as it
stands there. What they send and get is read from the browser's network log, not from what they say.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from playwright.sync_api import Browser, Page, Route

from infra.local.mail import fresh_message_id, history_ids, push_body
from tests.support.browser import Tab, find_browser, launched, opened
from tests.support.dev_process import DevProcess
from tests.support.gateway import NO_TLS, ROOT, eventually
from tests.support.require import require

#: Both clients renew such a token after half of its life. A token's `exp` is a whole second: it may live one less.
TTL_S = 5
SHORT_TTL_S = 3
#: What a client is told of a token when it is to be taken by surprise, as one is that sleeps through the renewal.
BELIEVED_S = 3600.0
LIVES = 3
PUSH_EVERY_S = 0.2
#: How long a part of the stack may take to be back after it was killed, and a client after that.
RECOVERY_S = 20.0
#: The stream's usual `retry:`.
RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as the browser's EventSource took it."""

    name: str
    id: str
    data: dict[str, Any]


@dataclass(slots=True)
class Opening:
    """A request for a stream: its query, when it was sent (Unix seconds), and its answer (None: there was none)."""

    query: dict[str, str]
    at: float
    status: int | None = None
    frames: list[Frame] = field(default_factory=list)

    @property
    def token_expires_at(self) -> float:
        claims = jwt.decode(self.query["token"], options={"verify_signature": False})
        return float(claims["exp"])


class Wire:
    """Every stream that a tab asked for, as Chromium's network log has it."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._openings: dict[str, Opening] = {}
        log = page.context.new_cdp_session(page)
        log.on("Network.requestWillBeSent", self._on_request)
        log.on("Network.responseReceived", self._on_response)
        log.on("Network.eventSourceMessageReceived", self._on_frame)
        log.send("Network.enable")

    def openings(self) -> list[Opening]:
        """Return them so far."""
        self._page.evaluate("0")  # what was noted before this answer has been heard
        return list(self._openings.values())

    def frames(self, name: str) -> list[Frame]:
        """Return all frames of a name so far, of all streams."""
        return [frame for opening in self.openings() for frame in opening.frames if frame.name == name]

    def _on_request(self, noted: dict[str, Any]) -> None:
        url = urlsplit(noted["request"]["url"])
        if url.path == "/events":
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            self._openings[noted["requestId"]] = Opening(query, noted["wallTime"])

    def _on_response(self, noted: dict[str, Any]) -> None:
        if noted["requestId"] in self._openings:
            self._openings[noted["requestId"]].status = noted["response"]["status"]

    def _on_frame(self, noted: dict[str, Any]) -> None:
        frame = Frame(noted["eventName"], noted["eventId"], json.loads(noted["data"]))
        self._openings[noted["requestId"]].frames.append(frame)


@dataclass(frozen=True, slots=True)
class Mail:
    """A push that was acknowledged."""

    message_id: str
    position: str

    @property
    def stored_at(self) -> float:
        """When it was stored, in Unix seconds."""
        return int(self.position.partition("-")[0]) / 1000


class Stack:
    """A running `tidemark dev`, and pushes as Google sends them."""

    def __init__(self, dev: DevProcess, client: httpx.Client) -> None:
        self.dev = dev
        self._client = client
        self._history_ids = history_ids()

    def push(self, mailbox: str, *, patience_s: float = 0.0) -> Mail:
        """Push a notification as Google would, which sends it again for `patience_s` until it is acknowledged."""
        message_id, history_id = fresh_message_id(), next(self._history_ids)
        headers = self.dev.data_dir.push_signer().authorization()
        answers: list[httpx.Response] = []

        def acknowledged() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answers.append(
                    self._client.post("/push", json=push_body(mailbox, history_id, message_id), headers=headers)
                )
            return bool(answers) and answers[-1].is_success

        eventually(acknowledged, "the push is acknowledged", patience_s)
        said = answers[-1].json()
        assert said["status"] in {"published", "duplicate"}, said
        return Mail(message_id, said["id"])


class Client(Protocol):
    """One that follows a mailbox in a tab."""

    tab: Tab
    wire: Wire

    def follow(self, mailbox: str, *, ttl_s: int) -> None:
        """Begin, with tokens that live so long; return when the stream is open."""

    def shown(self) -> list[Mail]:
        """Return every event that was shown, in that order, doubles and all."""


class PageClient:
    """The page."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.wire = Wire(tab.page)

    def follow(self, mailbox: str, *, ttl_s: int) -> None:
        self.tab.page.goto(f"/?mailbox={mailbox}&token_ttl={ttl_s}")
        self.tab.expect_state("live")

    def shown(self) -> list[Mail]:
        return [Mail(row.id, row.position) for row in self.tab.events()]


class ReadmeClient:
    """The snippet of the README, and what it leaves to the application. The page beside it follows nothing."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.wire = Wire(tab.page)

    def follow(self, mailbox: str, *, ttl_s: int) -> None:
        self.tab.page.goto("/")
        application = """([topic, ttl_s]) => {
          const endpoint = new URL("/events", location.href).href;
          const fetchToken = async () => {
            const body = JSON.stringify({ topics: [topic], user: "reader", ttl_s });
            const headers = { "Content-Type": "application/json" };
            return (await fetch("/dev/token", { method: "POST", headers, body })).json();
          };
          const shown = window.shown = [];
          const show = ({ id, position }) => shown.push([id, position]);
          const resynchronise = (topic) => { throw new Error(`a gap in ${topic}`); };
        """
        self.tab.page.evaluate(application + readme_snippet() + "}", [f"gmail:{mailbox}", ttl_s])
        eventually(lambda: len(self.wire.frames("tidemark.hello")) == 1, "the stream is open")

    def shown(self) -> list[Mail]:
        return [Mail(*pair) for pair in self.tab.page.evaluate("window.shown")]


def readme_snippet() -> str:
    """Give the code that the README shows for renewing a token."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n### Renewing a token\n")[2]
    found = re.search(r"^```js\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found is not None, "the README has no such snippet"
    return found[1]


KINDS: dict[str, Callable[[Tab], Client]] = {"page": PageClient, "readme": ReadmeClient}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless Chromium."""
    require(find_browser() is not None, "Chromium")
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give the local stack."""
    assert browser.is_connected()  # without a browser it is not even started
    with (
        DevProcess.running(tmp_path_factory.mktemp("dev") / "data") as dev,
        httpx.Client(base_url=dev.url, timeout=10.0, verify=NO_TLS, trust_env=False) as client,
    ):
        yield Stack(dev, client)


@pytest.fixture
def new_client(browser: Browser, stack: Stack) -> Iterator[Callable[[str], Client]]:
    """Open clients by kind, each in a browser profile of its own. None of them may have complained in the end."""
    with contextlib.ExitStack() as tabs:
        made: list[Client] = []

        def make(kind: str) -> Client:
            made.append(KINDS[kind](tabs.enter_context(opened(browser, stack.dev.url))))
            return made[-1]

        yield make
        for client in made:
            assert client.tab.complaints() == []


@pytest.fixture
def mailbox() -> str:
    """Give a mailbox that no other test has."""
    return f"m{uuid.uuid4().hex[:8]}@example.com"


def expect_shown(client: Client, mails: list[Mail], *, within_s: float = 5.0) -> None:
    """Every mail is shown once, in the order of the pushes, and nothing else is."""
    eventually(lambda: mails[-1] in client.shown(), "the last mail is shown", within_s)
    assert client.shown() == mails


def deceive_once(client: Client) -> None:
    """Have a client believe that its next token lives for an hour."""

    def answer(route: Route) -> None:
        granted = route.fetch()
        route.fulfill(response=granted, json={**granted.json(), "expires_in_s": BELIEVED_S})

    client.tab.page.route("**/dev/token", answer, times=1)


def test_a_token_is_renewed_before_it_expires_while_mail_flows(
    stack: Stack, new_client: Callable[[str], Client], mailbox: str
) -> None:
    """Over three lives of a token each mail is shown once, and no stream is ended by the server."""
    clients = [new_client(kind) for kind in KINDS]
    for client in clients:
        client.follow(mailbox, ttl_s=TTL_S)

    mails: list[Mail] = []
    until = time.monotonic() + LIVES * TTL_S
    while time.monotonic() < until:
        mails.append(stack.push(mailbox))
        time.sleep(PUSH_EVERY_S)

    for client in clients:
        expect_shown(client, mails)
        openings = client.wire.openings()
        assert len(openings) > LIVES  # each renewal opens one more
        for old, new in itertools.pairwise(openings):
            assert new.query["token"] != old.query["token"]
            assert new.at < old.token_expires_at
            cursor = next(frame.id for frame in reversed(old.frames) if frame.id)
            assert new.query["last_event_id"] == cursor
        assert {opening.status for opening in openings} == {200}
        assert client.wire.frames("tidemark.bye") == []
        assert client.wire.frames("tidemark.gap") == []


def test_the_page_renews_in_time_though_the_clock_of_the_machine_is_set_back(
    new_client: Callable[[str], Client], mailbox: str
) -> None:
    """A token's age is measured, not read from the clock on the wall."""
    page = new_client("page")
    page.follow(mailbox, ttl_s=TTL_S)

    page.tab.page.evaluate("const now = Date.now; Date.now = () => now() - 3_600_000")

    eventually(lambda: len(page.wire.frames("tidemark.hello")) == 2, "the stream was opened anew", TTL_S)
    assert page.wire.frames("tidemark.bye") == []
    page.tab.expect_state("live")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_missed_the_renewal_is_told_that_its_token_expired_and_resumes_with_a_new_one(
    stack: Stack, new_client: Callable[[str], Client], mailbox: str, kind: str
) -> None:
    """What is pushed while no stream is open, between the `bye` and the new token, is there once as well."""
    client = new_client(kind)
    client.tab.requests_may_fail = True  # the page compares with the log now and then, which may be just then
    deceive_once(client)
    client.follow(mailbox, ttl_s=SHORT_TTL_S)
    before = [stack.push(mailbox) for _ in range(3)]
    expect_shown(client, before)
    meanwhile: list[Mail] = []

    def push_and_go_on(route: Route) -> None:
        """By now the old stream has ended, and the new one needs the token that this request is for."""
        meanwhile.extend(stack.push(mailbox) for _ in range(5))
        route.continue_()

    client.tab.page.route("**/dev/token", push_and_go_on, times=1)
    eventually(lambda: len(client.wire.openings()) == 2, "the client has come back", SHORT_TTL_S + 5)
    after = [stack.push(mailbox) for _ in range(3)]

    expect_shown(client, [*before, *meanwhile, *after])
    assert len(meanwhile) == 5
    first, second = client.wire.openings()[:2]
    assert first.frames[-1].name == "tidemark.bye"
    assert first.frames[-1].data == {"reason": "token_expired", "reconnect": False}
    assert first.token_expires_at <= meanwhile[0].stored_at <= meanwhile[-1].stored_at <= second.at
    assert second.query["last_event_id"] == before[-1].position
    assert second.query["token"] != first.query["token"]


def test_an_event_source_whose_token_expired_does_not_come_back_by_itself(
    stack: Stack, new_client: Callable[[str], Client], mailbox: str
) -> None:
    """Nobody closes it here. Its last `retry:`, of an hour, keeps it from asking again with the old token."""
    tab = new_client("readme").tab
    tab.page.goto("/")
    wire = Wire(tab.page)
    tab.page.evaluate(
        """async ([topic, ttl_s]) => {
          const body = JSON.stringify({ topics: [topic], ttl_s });
          const headers = { "Content-Type": "application/json" };
          const { token } = await (await fetch("/dev/token", { method: "POST", headers, body })).json();
          window.source = new EventSource(`/events?${new URLSearchParams({ token })}`);
        }""",
        [f"gmail:{mailbox}", SHORT_TTL_S],
    )
    eventually(lambda: len(wire.frames("tidemark.bye")) == 1, "the token has expired", SHORT_TTL_S + 2)
    stack.push(mailbox)

    tab.page.wait_for_timeout(1.5 * RETRY_S * 1000)  # that it would have come back can only be waited for

    (only,) = wire.openings()
    assert [frame.name for frame in only.frames] == ["tidemark.hello", "tidemark.bye"]
    assert only.frames[-1].data == {"reason": "token_expired", "reconnect": False}
    assert tab.page.evaluate("source.readyState === EventSource.CONNECTING")


def test_a_client_whose_connection_breaks_and_whose_token_has_expired_by_then_comes_back_with_a_new_one(
    stack: Stack, new_client: Callable[[str], Client], mailbox: str
) -> None:
    """The EventSource comes back by itself, with the old token, is answered 401, and is closed for good."""
    clients = [new_client(kind) for kind in KINDS]
    for client in clients:
        client.tab.requests_may_fail = True
        deceive_once(client)
        client.follow(mailbox, ttl_s=SHORT_TTL_S)
    before = [stack.push(mailbox) for _ in range(3)]
    for client in clients:
        expect_shown(client, before)

    # Muted first, so that it cannot say goodbye.
    origin = stack.dev.processes["origin"]
    os.kill(origin, signal.SIGSTOP)
    last_expires_at = max(client.wire.openings()[0].token_expires_at for client in clients)
    eventually(lambda: time.time() > last_expires_at, "both tokens have expired", SHORT_TTL_S)
    os.kill(origin, signal.SIGKILL)
    meanwhile = [stack.push(mailbox, patience_s=RECOVERY_S) for _ in range(5)]

    for client in clients:
        expect_shown(client, [*before, *meanwhile], within_s=RECOVERY_S)
        assert client.wire.frames("tidemark.bye") == []
        first, *others = [opening for opening in client.wire.openings() if opening.status is not None]
        refused, resumed = others[:2]
        assert [opening.status for opening in (first, refused, resumed)] == [200, 401, 200]
        assert refused.query == first.query
        assert resumed.query["token"] != first.query["token"]
        assert resumed.query["last_event_id"] == before[-1].position


@pytest.mark.parametrize("ttl_s", [0, -1, 86_401, 1.5, True, "60", None])
def test_a_life_that_no_token_may_have_is_refused(stack: Stack, ttl_s: object) -> None:
    """As a problem, before anything is signed."""
    answer = httpx.post(
        f"{stack.dev.url}/dev/token", json={"topics": ["gmail:a@b.c"], "ttl_s": ttl_s}, verify=NO_TLS, trust_env=False
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_body")


@pytest.mark.parametrize("ttl_s", [1, 86_400])
def test_a_token_lives_as_long_as_was_asked_and_its_answer_says_how_long_that_is(stack: Stack, ttl_s: int) -> None:
    """Up to a second less than was asked, for `exp` is a whole second."""
    began_at = time.time()
    answer = httpx.post(
        f"{stack.dev.url}/dev/token", json={"topics": ["gmail:a@b.c"], "ttl_s": ttl_s}, verify=NO_TLS, trust_env=False
    ).json()
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == ttl_s
    assert began_at - 0.001 <= claims["exp"] - answer["expires_in_s"] <= time.time() + 0.001
