"""The page of `tidemark dev`, in a browser, against the real stack: nothing missed, nothing doubled, and it says so.

Chromium drops, kills and stops nothing by itself: what breaks here is broken on purpose, by process id.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from infra.local.data_dir import DataDir
from infra.local.mail import fresh_message_id, history_ids, push_body
from tests.support.browser import Tab, find_browser, launched, opened
from tests.support.gateway import end, eventually
from tests.support.require import require

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
#: How long a part of the stack may take to be back after it was killed, on a busy machine.
RECOVERY_S = 20.0
RECOVERY_MS = 20_000
PROMPT_MS = 2_000
TOPIC_MAX_EVENTS = 20
HEARTBEAT_S = 15


@dataclass(frozen=True, slots=True)
class Mail:
    """A push that was acknowledged."""

    message_id: str
    history_id: str
    topic: str
    position: str


class DevStack:
    """A running `tidemark dev`."""

    def __init__(self, url: str, data_dir: Path, client: httpx.Client) -> None:
        self.url = url
        self._data_dir = DataDir(data_dir)
        self._client = client
        self._history_ids = history_ids()

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path, **settings: object) -> Iterator[DevStack]:
        """Start it with some settings (TIDEMARK_… by their names), and stop it for sure."""
        said = directory / "dev.log"
        argv = [str(Path(sys.executable).with_name("tidemark")), "dev", "--port", "0"]
        argv += ["--data-dir", str(directory / "data")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
        environment |= {name: str(value) for name, value in settings.items()}
        with said.open("wb") as log:
            process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:

            def ready() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"tidemark dev ended at once: {said.read_text()}")
                return "ready on" in said.read_text()

            eventually(ready, "tidemark dev is ready", START_TIMEOUT_S)
            found = re.search(r"^tidemark dev: ready on (http://127\.0\.0\.1:\d+)$", said.read_text(), re.MULTILINE)
            assert found is not None, said.read_text()
            with httpx.Client(base_url=found[1], timeout=10.0, trust_env=False) as client:
                yield cls(found[1], directory / "data", client)
        finally:
            end(process)

    def push(self, mailbox: str, *, patience_s: float = 0.0) -> Mail:
        """Push a notification as Google would, which sends it again for `patience_s` until it is acknowledged."""
        message_id, history_id = fresh_message_id(), next(self._history_ids)
        headers = self._data_dir.push_signer().authorization()
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = self._client.post("/push", json=push_body(mailbox, history_id, message_id), headers=headers)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            else:
                # One that is queued has no position yet: a redelivery learns it.
                known = answer.is_success and answer.json()["status"] != "queued"
                if known or time.monotonic() > deadline:
                    break
            time.sleep(0.1)
        answer.raise_for_status()
        said = answer.json()
        assert said["status"] in {"published", "duplicate"}, said
        return Mail(message_id, str(history_id), f"gmail:{mailbox}", said["id"])

    def pid(self, name: str) -> int:
        """Return the process id of a part: redis, gateway or origin."""
        noted = self._data_dir.running()
        assert noted is not None, "tidemark dev has stopped"
        return int(noted["processes"][name])

    def kill(self, name: str) -> None:
        """Make a part vanish; `tidemark dev` is to start it again."""
        os.kill(self.pid(name), signal.SIGKILL)

    @contextlib.contextmanager
    def mute(self, name: str) -> Iterator[None]:
        """Have a part say nothing for a while, with all its connections open."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless Chromium."""
    require(find_browser() is not None, "Chromium")
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """Give the local stack. Topics keep few events, so that a gap is quickly made."""
    assert browser.is_connected()  # without a browser it is not even started
    settings = {"TIDEMARK_RECONCILE_S": 2, "TIDEMARK_TOPIC_MAX_EVENTS": TOPIC_MAX_EVENTS}
    with DevStack.running(tmp_path_factory.mktemp("dev"), **settings) as running:
        yield running


@pytest.fixture
def new_tab(browser: Browser, stack: DevStack) -> Iterator[Callable[[], Tab]]:
    """Open tabs, each of a user of its own. None of them may have complained in the end."""
    with contextlib.ExitStack() as tabs:
        made: list[Tab] = []

        def make() -> Tab:
            made.append(tabs.enter_context(opened(browser, stack.url)))
            return made[-1]

        yield make
        for tab in made:
            assert tab.complaints() == []


@pytest.fixture
def tab(new_tab: Callable[[], Tab]) -> Tab:
    """Give one tab."""
    return new_tab()


@pytest.fixture
def mailbox() -> str:
    """Give a mailbox that no other test has."""
    return fresh_mailbox()


def fresh_mailbox() -> str:
    return f"m{uuid.uuid4().hex[:8]}@example.com"


def order_of(position: str) -> tuple[int, int]:
    milliseconds, sequence = position.split("-")
    return int(milliseconds), int(sequence)


def assert_shows(tab: Tab, mails: Sequence[Mail], *, within_ms: int = 5_000) -> None:
    """Every mail is shown once, as it was pushed, and nothing else is; each topic in the order of its positions.

    A double of an earlier mail would come before the last one, which is waited for.
    """
    tab.expect_event(mails[-1].message_id, within_ms=within_ms)
    for topic in {mail.topic for mail in mails}:
        expected = [mail for mail in mails if mail.topic == topic]
        tab.expect_event(expected[-1].message_id, within_ms=within_ms)
        shown = [row for row in tab.events() if row.topic == topic]
        assert [row.id for row in shown] == [mail.message_id for mail in expected]
        assert [row.position for row in shown] == [mail.position for mail in expected]
        assert [row.history_id for row in shown] == [mail.history_id for mail in expected]
        positions = [order_of(row.position) for row in shown]
        assert positions == sorted(set(positions))
    assert len(tab.events()) == len(mails)
    tab.expect_text("count", str(len(mails)))
    assert tab.text("missed") == "0"


def test_a_push_shows_as_an_event_within_two_seconds_with_its_history_id_and_how_long_it_took(
    stack: DevStack, tab: Tab, mailbox: str
) -> None:
    """The row tells the mailbox, the history id, the position and the delay; the figures count the delay in."""
    tab.visit(mailbox)

    mail = stack.push(mailbox)

    tab.expect_event(mail.message_id, within_ms=PROMPT_MS)
    assert_shows(tab, [mail])
    (row,) = tab.events()
    assert row.live
    assert 0 <= row.delay_ms < PROMPT_MS
    assert row.source.startswith("//pubsub.googleapis.com/")
    for words in (mailbox, mail.history_id, mail.position, f"{row.delay_ms} ms"):
        assert words in row.words
    for figure in ("p50", "p95", "last"):
        tab.expect_text(figure, str(row.delay_ms))


def test_the_button_sends_a_mail_that_appears(tab: Tab, mailbox: str) -> None:
    """Typed, followed, sent with the buttons: one mail, and then twenty."""
    tab.visit()
    tab.expect_state("closed")
    tab.part("mailbox").fill(mailbox.upper())
    tab.part("follow").click()
    tab.expect_state("live")

    tab.part("send").click()

    expect(tab.part("sent")).to_have_text(re.compile(r"^published at \d+-\d+$"))
    position = tab.text("sent").rpartition(" ")[2]
    tab.expect_text("count", "1", within_ms=PROMPT_MS)
    assert [(row.position, row.topic) for row in tab.events()] == [(position, f"gmail:{mailbox}")]

    tab.part("send-many").click()

    tab.expect_text("count", "21")
    positions = [order_of(row.position) for row in tab.events()]
    assert positions == sorted(set(positions))
    assert len(positions) == 21


def test_what_is_no_mailbox_is_refused_in_words(tab: Tab) -> None:
    """Nothing is followed, and the words name what was typed."""
    tab.visit()

    tab.part("mailbox").fill("<b>nobody</b>")
    tab.part("follow").click()

    expect(tab.page.get_by_role("alert")).to_contain_text("<b>nobody</b> is not a mailbox address")
    tab.expect_state("closed")


def test_a_page_opened_from_the_earliest_shows_what_is_held_and_one_opened_now_does_not(
    stack: DevStack, new_tab: Callable[[], Tab], mailbox: str
) -> None:
    """Without `from` a page begins with what happens next."""
    old = [stack.push(mailbox) for _ in range(3)]
    from_earliest, from_now = new_tab(), new_tab()
    from_earliest.visit(mailbox, start="earliest")
    from_now.visit(mailbox)

    new = stack.push(mailbox)

    assert_shows(from_earliest, [*old, new])
    assert [row.live for row in from_earliest.events()] == [False, False, False, True]
    assert_shows(from_now, [new])


def test_what_the_server_sent_can_be_looked_at_frame_by_frame(stack: DevStack, tab: Tab, mailbox: str) -> None:
    """Newest first, as the EventSource hands them over."""
    tab.visit(mailbox)
    mail = stack.push(mailbox)
    tab.expect_event(mail.message_id)

    tab.part("show-frames").click()

    expect(tab.part("events")).to_be_hidden()
    newest, first = tab.part("frames").locator("li").all_inner_texts()
    assert f"id: {mail.position}" in newest
    assert f'"historyId":"{mail.history_id}"' in newest
    assert "event: tidemark.hello" in first


def test_mails_sent_while_the_connection_is_dropped_are_there_once_after_it_comes_back(
    stack: DevStack, tab: Tab, mailbox: str
) -> None:
    """The button cuts the connection; it comes back by itself after two seconds, with the cursor."""
    tab.visit(mailbox)
    before = [stack.push(mailbox) for _ in range(3)]
    assert_shows(tab, before)

    tab.part("drop").click()
    tab.expect_state("reconnecting")
    meanwhile = [stack.push(mailbox) for _ in range(6)]
    assert len(tab.events()) == 3
    tab.expect_text("reconnects", "1")
    after = [stack.push(mailbox) for _ in range(3)]

    assert_shows(tab, [*before, *meanwhile, *after])
    assert [row.live for row in tab.events()] == [True] * 3 + [False] * 6 + [True] * 3
    expect(tab.part("events")).to_contain_text("you dropped it · 6 events caught up")
    assert tab.text("gaps") == "0"
    expect(tab.page.locator("#audit")).to_contain_text("Compared with the log itself")
    assert tab.text("missed") == "0"


def test_a_stream_whose_process_was_killed_resumes_with_nothing_missed_or_doubled(
    stack: DevStack, tab: Tab, mailbox: str
) -> None:
    """Without warning: the body just ends. Mails come before, while the process starts again, and after."""
    tab.requests_may_fail = True
    tab.visit(mailbox)
    mails = [stack.push(mailbox) for _ in range(3)]
    assert_shows(tab, mails)
    killed = stack.pid("origin")

    stack.kill("origin")

    mails += [stack.push(mailbox, patience_s=RECOVERY_S) for _ in range(3)]
    tab.expect_text("reconnects", "1", within_ms=RECOVERY_MS)
    assert stack.pid("origin") != killed
    mails += [stack.push(mailbox) for _ in range(3)]
    assert_shows(tab, mails)
    assert tab.text("gaps") == "0"


def test_a_reloaded_page_resumes_by_its_cursor(stack: DevStack, tab: Tab, mailbox: str) -> None:
    """What came while the page was gone is caught up; what it had shown before is not sent again."""
    tab.visit(mailbox)
    assert_shows(tab, [stack.push(mailbox) for _ in range(3)])
    meanwhile: list[Mail] = []

    def push_and_go_on(route: Route) -> None:
        """By now the old document is gone, and the new one has no stream yet."""
        meanwhile.extend(stack.push(mailbox) for _ in range(3))
        route.continue_()

    tab.page.route("**/page/app.js", push_and_go_on, times=1)
    tab.page.reload()
    tab.expect_state("live")
    last = stack.push(mailbox)

    assert len(meanwhile) == 3
    assert_shows(tab, [*meanwhile, last])
    assert [row.live for row in tab.events()] == [False, False, False, True]
    assert tab.text("doubles") == "0"


def test_being_away_for_more_than_a_topic_keeps_shows_a_gap_and_then_what_is_still_held(
    stack: DevStack, tab: Tab, mailbox: str
) -> None:
    """No silent hole: the gap stands between what was seen and what is left, and says from where to where."""
    tab.visit(mailbox)
    before = [stack.push(mailbox) for _ in range(3)]
    assert_shows(tab, before)

    tab.part("come-back").uncheck()
    tab.part("drop").click()
    tab.expect_state("closed")
    meanwhile = [stack.push(mailbox) for _ in range(TOPIC_MAX_EVENTS + 10)]
    tab.part("resume").click()
    tab.expect_state("live")

    held = meanwhile[-TOPIC_MAX_EVENTS:]
    assert_shows(tab, [*before, *held])
    tab.expect_text("gaps", "1")
    (gap,) = tab.gaps()
    assert (gap.topic, gap.after, gap.events_before) == (f"gmail:{mailbox}", before[-1].position, len(before))
    last_lost, first_held = meanwhile[-TOPIC_MAX_EVENTS - 1], held[0]
    assert order_of(last_lost.position) <= order_of(gap.resume) <= order_of(first_held.position)

    last = stack.push(mailbox)
    assert_shows(tab, [*before, *held, last])
    assert tab.text("gaps") == "1"


def test_several_mailboxes_are_followed_at_once_and_more_can_be_added_without_losing_any(
    stack: DevStack, tab: Tab
) -> None:
    """One cursor resumes any set of topics: after a change of the set, and after a drop."""
    first, second, third = (fresh_mailbox() for _ in range(3))
    tab.visit(first)
    mails = [stack.push(first) for _ in range(2)]

    tab.part("mailbox").fill(f"{second}, {third}")
    tab.part("follow").click()
    mails.append(stack.push(first))
    expect(tab.part("state")).to_have_text("live · following 3 mailboxes")
    mails += [stack.push(mailbox) for _ in range(2) for mailbox in (third, first, second)]
    assert_shows(tab, mails)

    tab.part("drop").click()
    mails += [stack.push(mailbox) for _ in range(2) for mailbox in (second, third, first)]
    tab.expect_text("reconnects", "1")
    mails += [stack.push(mailbox) for mailbox in (second, third, first)]
    assert_shows(tab, mails)
    assert tab.text("gaps") == "0"


def test_a_page_open_while_redis_is_killed_shows_every_mail_that_is_acknowledged(
    stack: DevStack, tab: Tab, mailbox: str
) -> None:
    """The log is gone for a moment. Whether the stream survives or comes back is the server's choice."""
    tab.requests_may_fail = True  # the page compares with the log now and then, which may be just now
    tab.visit(mailbox)
    mails = [stack.push(mailbox) for _ in range(3)]
    assert_shows(tab, mails)
    killed = stack.pid("redis")

    stack.kill("redis")

    mails += [stack.push(mailbox, patience_s=RECOVERY_S) for _ in range(5)]
    assert stack.pid("redis") != killed
    assert_shows(tab, mails, within_ms=RECOVERY_MS)
    tab.expect_state("live")
    assert tab.text("gaps") == "0"


def test_a_server_that_falls_silent_is_left_after_three_heartbeats(stack: DevStack, tab: Tab, mailbox: str) -> None:
    """Neither data nor an error comes from a connection that is dead. The page's clock is moved on."""
    tab.page.clock.install()
    tab.visit(mailbox)
    mails = [stack.push(mailbox) for _ in range(2)]
    assert_shows(tab, mails)

    with stack.mute("origin"):
        tab.page.clock.fast_forward(2 * HEARTBEAT_S * 1000 + 1_000)
        tab.expect_state("silent")
        tab.page.clock.fast_forward(HEARTBEAT_S * 1000)
        tab.expect_state("reconnecting")
        expect(tab.part("state")).to_contain_text("three heartbeats were missing")

    tab.expect_text("reconnects", "1", within_ms=RECOVERY_MS)
    mails += [stack.push(mailbox) for _ in range(2)]
    assert_shows(tab, mails)


def test_the_pages_policy_lets_no_foreign_script_run_and_a_violation_is_noticed_here(tab: Tab) -> None:
    """What all other tests rely on when they say that nothing was violated."""
    tab.visit()
    assert tab.complaints() == []

    ran = tab.page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "window.ran = true";
                   document.body.append(script); return window.ran === true; }"""
    )

    assert not ran
    assert any("policy violated: script-src" in complaint for complaint in tab.complaints())
    tab.forget_complaints()
