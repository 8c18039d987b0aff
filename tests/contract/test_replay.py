"""`GET /replay` and `POST /ack` as the contract says, through Mangum, on a real Redis behind the real gateway."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from infra.local.mail import push_body
from shared.keys import Keys
from shared.position import Position
from shared.tokens import mint
from tests.support.faulty_gateway import Answer as GatewayAnswer
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import Gateway, free_port
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
    Answer,
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    redis_command,
)
from tests.support.log_rig import own_stage

HANDLER = "functions.replay.handler"
ANN, BEN = "ann@example.com", "ben@example.com"
TOPICS = (f"gmail:{ANN}", f"gmail:{BEN}")
ORIGIN = "https://app.example"


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def function(gateway: Gateway, stage: str) -> Iterator[LambdaFunction]:
    with deployed(HANDLER, environment(gateway, stage, TIDEMARK_CORS_ORIGINS=ORIGIN)) as started:
        yield started


class Client:
    """A user with a token."""

    def __init__(self, function: LambdaFunction, *topics: str, user: str = "ann", ttl_s: int = 600) -> None:
        self._function = function
        self.token = mint(user, topics or TOPICS, kid=KID, key=TOKEN_KEY, ttl_s=ttl_s, now=time.time())

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def replay(self, *topics: str, **query: object) -> Answer:
        """Ask for a page."""
        asked = [("topic", topic) for topic in topics] + [(name, str(value)) for name, value in query.items()]
        answer = self._function.invoke("GET", "/replay", query=urlencode(asked), headers=self.headers)
        assert answer.headers["cache-control"] == "no-store"
        assert self.token.encode() not in answer.body
        return answer

    def page(self, *topics: str, **query: object) -> dict[str, Any]:
        """Ask for a page and get it."""
        answer = self.replay(*topics, **query)
        assert answer.status == 200, answer.body
        page: dict[str, Any] = answer.json()
        assert page.keys() == {"events", "cursor", "more", "gaps"}
        return page

    def ack(self, cursor: object, client: object = "tab", **more: object) -> Answer:
        """Acknowledge."""
        return self.ack_raw(json.dumps({"cursor": cursor, "client": client, **more}).encode())

    def ack_raw(self, body: bytes) -> Answer:
        """Send any body to be acknowledged."""
        return self._function.invoke("POST", "/ack", headers=self.headers, body=body, encoded=True)


@pytest.fixture
def ann(function: LambdaFunction) -> Client:
    return Client(function)


class Mail:
    """Pushes mail through the webhook; gives positions."""

    def __init__(self, webhook: LambdaFunction) -> None:
        self._webhook = webhook
        self._numbers = itertools.count(1)

    def push(self, *mailboxes: str) -> list[str]:
        return [self._push(mailbox) for mailbox in mailboxes]

    def _push(self, mailbox: str) -> str:
        number = next(self._numbers)
        body = json.dumps(push_body(mailbox, number, f"m-{number}")).encode()
        position: str = self._webhook.invoke("POST", "/push", body=body).json()["id"]
        return position


@pytest.fixture
def mail(gateway: Gateway, stage: str) -> Iterator[Mail]:
    with deployed("functions.webhook.handler", environment(gateway, stage)) as webhook:
        yield Mail(webhook)


def positions(page: Mapping[str, Any]) -> list[str]:
    return [event["position"] for event in page["events"]]


def later(cursor: str, ms: int) -> str:
    position = Position.parse(cursor)
    return str(Position(position.ms + ms, position.seq))


# -- pages


def test_a_page_holds_the_envelopes_after_a_cursor(ann: Client, mail: Mail) -> None:
    """The same envelope as on the stream, with its position; the cursor is at or above the last of them."""
    first, second = mail.push(ANN, ANN)
    page = ann.page(TOPICS[0], after=first)
    [event] = page["events"]
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "id": "m-2",
        "source": "//pubsub.googleapis.com/projects/tidemark-local/subscriptions/gmail",
        "type": "gmail.mailbox.changed",
        "subject": ANN,
        "topic": TOPICS[0],
        "position": second,
        "data": {"emailAddress": ANN, "historyId": "2"},
    }
    assert (page["cursor"], page["more"], page["gaps"]) == (second, False, [])


def test_pages_follow_each_other_without_losing_or_repeating_an_event(ann: Client, mail: Mail) -> None:
    """Each cursor is the next ``after``, over all topics of the token, in rising positions."""
    pushed = mail.push(*[ANN, BEN, ANN, ANN, BEN, BEN, ANN])
    found, sizes, cursor = list[str](), list[int](), "earliest"
    while True:
        page = ann.page(after=cursor, limit=3)
        found += positions(page)
        sizes.append(len(page["events"]))
        cursor = page["cursor"]
        if not page["more"]:
            break
    assert found == pushed
    assert max(sizes) <= 3
    assert ann.page(after=cursor) == {"events": [], "cursor": cursor, "more": False, "gaps": []}
    [newest] = mail.push(BEN)
    assert positions(ann.page(after=cursor)) == [newest]


def test_a_page_holds_a_hundred_events_unless_it_is_told_otherwise(ann: Client, mail: Mail) -> None:
    """The default limit; 500 is the most."""
    pushed = mail.push(*[ANN] * 103)
    page = ann.page(TOPICS[0], after="earliest")
    assert (positions(page), page["more"]) == (pushed[:100], True)
    assert positions(ann.page(TOPICS[0], after="earliest", limit=1)) == pushed[:1]
    page = ann.page(TOPICS[0], after="earliest", limit=500)
    assert (positions(page), page["more"]) == (pushed, False)


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "1.5", "", " 1", "1e2", "9" * 30])
def test_a_limit_outside_of_1_to_500_is_refused(ann: Client, limit: str) -> None:
    """Also an empty one, and one that only Python would take for a number."""
    check_problem(ann.replay(after="earliest", limit=limit), 400, "bad_number")


def test_the_topics_asked_for_are_the_ones_answered(ann: Client, mail: Mail) -> None:
    """One, several, or all of the token when none is named; one that is named twice counts once."""
    a, b, c = mail.push(ANN, BEN, ANN)
    assert positions(ann.page(TOPICS[1], after="earliest")) == [b]
    assert positions(ann.page(*TOPICS, TOPICS[0], after="earliest")) == [a, b, c]
    assert positions(ann.page(after="earliest")) == [a, b, c]


def test_a_topic_that_never_had_an_event_is_empty_and_no_gap(ann: Client, mail: Mail) -> None:
    """Its cursor rises all the same, with the log's clock."""
    [position] = mail.push(BEN)
    assert ann.page(TOPICS[0], after="earliest") == {"events": [], "cursor": position, "more": False, "gaps": []}


def test_an_empty_log_answers_with_a_cursor_to_go_on_from(ann: Client, mail: Mail) -> None:
    """Nothing was ever pushed: whatever comes next is after it."""
    page = ann.page(after="earliest")
    assert (page["events"], page["more"], page["gaps"]) == ([], False, [])
    pushed = mail.push(ANN)
    assert positions(ann.page(after=page["cursor"])) == pushed


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1-", "-1-1", "01-1", "1-1 ", "now", "EARLIEST", "$", "1-1-1", f"{2**53}-0", "1-1\n"]
)
def test_what_is_no_cursor_is_refused(ann: Client, cursor: str) -> None:
    """``now`` too: nothing can be missed after now."""
    check_problem(ann.replay(after=cursor), 400, "bad_cursor")


def test_a_page_needs_to_know_where_to_begin(ann: Client) -> None:
    """``after`` is required; there is no default that could hide a hole."""
    found = check_problem(ann.replay(), 400, "bad_cursor")
    assert "after" in found["detail"]


# -- gaps


@pytest.fixture
def short_mail(gateway: Gateway, stage: str) -> Iterator[Mail]:
    """Mail of which each topic keeps the last two events."""
    settings = environment(gateway, stage, TIDEMARK_TOPIC_MAX_EVENTS="2")
    with deployed("functions.webhook.handler", settings) as webhook:
        yield Mail(webhook)


def test_events_that_are_no_longer_held_are_told_as_a_gap(ann: Client, short_mail: Mail) -> None:
    """From the cursor to where what is held begins; what is held follows."""
    pushed = short_mail.push(*[ANN] * 5)
    page = ann.page(TOPICS[0], after=pushed[0])
    assert page["gaps"] == [{"topic": TOPICS[0], "after": pushed[0], "resume": pushed[2]}]
    assert positions(page) == pushed[3:]
    assert page["cursor"] == pushed[4]


def test_a_cursor_at_the_edge_of_what_is_held_is_no_gap(ann: Client, short_mail: Mail) -> None:
    """Everything after it is there: it says so by saying nothing."""
    pushed = short_mail.push(*[ANN] * 5)
    page = ann.page(TOPICS[0], after=pushed[2])
    assert (page["gaps"], positions(page)) == ([], pushed[3:])


def test_the_earliest_has_no_gap(ann: Client, short_mail: Mail) -> None:
    """Whoever asks for what is held misses nothing of it."""
    pushed = short_mail.push(*[ANN] * 5)
    page = ann.page(TOPICS[0], after="earliest")
    assert (page["gaps"], positions(page)) == ([], pushed[3:])


def test_a_gap_is_told_for_the_topic_that_has_it(ann: Client, short_mail: Mail) -> None:
    """The other one is whole."""
    pushed = short_mail.push(BEN, ANN, ANN, ANN, ANN)
    page = ann.page(after=pushed[1])
    assert [gap["topic"] for gap in page["gaps"]] == [TOPICS[0]]
    page = ann.page(after=pushed[0])
    assert [gap["topic"] for gap in page["gaps"]] == [TOPICS[0]]
    assert positions(page) == pushed[3:]


def test_a_gap_is_told_once_over_several_pages(ann: Client, short_mail: Mail) -> None:
    """On the page with which its topic goes on, before its events."""
    pushed = short_mail.push(ANN, ANN, BEN, BEN, BEN, ANN, ANN)
    found, gaps, cursor = list[str](), list[dict[str, str]](), pushed[0]
    while True:
        page = ann.page(after=cursor, limit=1)
        gaps += page["gaps"]
        found += positions(page)
        cursor = page["cursor"]
        if not page["more"]:
            break
    assert found == [pushed[3], pushed[4], pushed[5], pushed[6]]
    assert sorted(gap["topic"] for gap in gaps) == sorted(TOPICS)


def test_a_cursor_from_the_beginning_of_time_is_a_gap(ann: Client, mail: Mail) -> None:
    """Nobody can say what was there before the log was born; what is held follows."""
    pushed = mail.push(ANN)
    page = ann.page(TOPICS[0], after="0-0")
    [gap] = page["gaps"]
    assert (gap["topic"], gap["after"]) == (TOPICS[0], "0-0")
    assert positions(page) == pushed


def test_a_cursor_from_a_lost_future_is_a_gap(ann: Client, mail: Mail) -> None:
    """The log has forgotten what that client has seen, and says so; the cursor it gives is one of this log."""
    pushed = mail.push(ANN)
    future = later(pushed[0], 3_600_000)
    page = ann.page(TOPICS[0], after=future)
    [gap] = page["gaps"]
    assert (gap["topic"], gap["after"]) == (TOPICS[0], future)
    assert Position.parse(page["cursor"]) < Position.parse(future)
    assert ann.page(TOPICS[0], after=page["cursor"])["gaps"] == []


# -- acks


def test_an_ack_is_kept_and_replayed_from(ann: Client, mail: Mail) -> None:
    """204 without a body; ``after=acked`` goes on from it."""
    pushed = mail.push(ANN, ANN, ANN)
    answer = ann.ack(pushed[1])
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert positions(ann.page(after="acked", client="tab")) == pushed[2:]


def test_without_an_ack_acked_means_the_earliest(ann: Client, mail: Mail) -> None:
    """All that is held, and no gap."""
    pushed = mail.push(ANN, BEN)
    page = ann.page(after="acked", client="new")
    assert (positions(page), page["gaps"]) == (pushed, [])


def test_acked_needs_the_client_that_acknowledged(ann: Client) -> None:
    """Its name, and a good one."""
    found = check_problem(ann.replay(after="acked"), 400, "bad_client")
    assert "client=" in found["detail"]
    check_problem(ann.replay(after="acked", client="a b"), 400, "bad_client")
    check_problem(ann.replay(after="acked", client=""), 400, "bad_client")


def test_an_ack_never_moves_backwards(ann: Client, mail: Mail) -> None:
    """A late one is taken and changes nothing: 204."""
    pushed = mail.push(ANN, ANN, ANN)
    for cursor in (pushed[1], pushed[0], "0-0"):
        assert ann.ack(cursor).status == 204
    assert positions(ann.page(after="acked", client="tab")) == pushed[2:]


def test_an_ack_belongs_to_one_user_and_one_client(function: LambdaFunction, ann: Client, mail: Mail) -> None:
    """Two tabs read at their own pace, and nobody acknowledges for another user."""
    pushed = mail.push(ANN, ANN)
    assert ann.ack(pushed[1], "tab").status == 204
    assert positions(ann.page(after="acked", client="other-tab")) == pushed
    assert positions(Client(function, user="ben").page(after="acked", client="tab")) == pushed
    assert positions(ann.page(after="acked", client="tab")) == []


def test_an_ack_of_everything_is_the_clock_itself(ann: Client, mail: Mail) -> None:
    """The cursor of a complete page."""
    mail.push(ANN)
    assert ann.ack(ann.page(after="earliest")["cursor"]).status == 204


@pytest.mark.parametrize("ms", [1, 3_600_000])
def test_an_ack_beyond_the_clock_is_409_and_not_kept(ann: Client, mail: Mail, ms: int) -> None:
    """A client that acknowledges what was never given out is wrong, or knows a log that is lost."""
    pushed = mail.push(ANN, ANN)
    assert ann.ack(pushed[0]).status == 204
    check_problem(ann.ack(later(pushed[1], ms)), 409, "cursor_ahead")
    assert positions(ann.page(after="acked", client="tab")) == pushed[1:]


def test_an_ack_is_kept_for_the_retention_time(gateway: Gateway, stage: str, ann: Client, mail: Mail) -> None:
    """And not for ever: clients name themselves, and there is no end to names."""
    ann.ack(mail.push(ANN)[0])
    left_s = redis_command(gateway, "TTL", Keys(stage).ack("ann", "tab"))
    assert 86_400 - 60 <= left_s <= 86_400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"{",
        b"[]",
        b"null",
        b'"1-1"',
        b"{}",
        b'{"cursor":"1-1"}',
        b'{"client":"tab"}',
        b"\xff\xfe",
        b'{"cursor":1,"client":"tab"}',
        b'{"cursor":"1-1","client":7}',
        b'{"cursor":null,"client":"tab"}',
        b"[" * 4000,
        b'{"cursor":["1-1"],"client":"tab"}',
    ],
)
def test_a_body_that_is_no_ack_is_refused(ann: Client, body: bytes) -> None:
    """Not JSON, no object, or a member missing or of another type."""
    check_problem(ann.ack_raw(body), 400, "bad_body")


def test_an_ack_with_a_bad_cursor_or_client_is_refused(ann: Client) -> None:
    """The same rules as in a query; words are no cursors here. Unknown members are ignored."""
    for cursor in ("", "x", "now", "earliest", "acked", "1-01", f"{2**53}-0"):
        check_problem(ann.ack(cursor), 400, "bad_cursor")
    for client in ("", "a b", "a" * 65, "ä", "a\n"):
        check_problem(ann.ack("0-0", client), 400, "bad_client")
    assert ann.ack("0-0", "tab", note="x").status == 204


def test_a_large_ack_is_413(ann: Client) -> None:
    """4 KiB are enough for any; the limit itself is allowed."""
    body = json.dumps({"cursor": "0-0", "client": "tab"}).encode()
    assert ann.ack_raw(body + b" " * (4096 - len(body))).status == 204
    check_problem(ann.ack_raw(body + b" " * (4097 - len(body))), 413, "body_too_large")


# -- who may ask


@pytest.mark.parametrize(("method", "path"), [("GET", "/replay"), ("POST", "/ack")])
def test_a_request_needs_a_good_token(function: LambdaFunction, method: str, path: str) -> None:
    """401 with WWW-Authenticate: missing, expired, or one that does not verify. The token is not in the answer."""
    expired = mint("ann", TOPICS, kid=KID, key=TOKEN_KEY, ttl_s=1, now=time.time() - 10)
    foreign = mint("ann", TOPICS, kid=KID, key="x" * 32, ttl_s=60, now=time.time())
    for authorization, code in (
        (None, "token_missing"),
        ("Bearer", "token_missing"),
        ("Basic YTpi", "token_missing"),
        (f"Bearer {expired}", "token_expired"),
        (f"Bearer {foreign}", "token_invalid"),
        ("Bearer x", "token_invalid"),
        (f"Bearer {'x' * 9000}", "token_invalid"),
    ):
        headers = {} if authorization is None else {"authorization": authorization}
        answer = function.invoke(method, path, query="after=earliest", headers=headers, body=b"{}")
        check_problem(answer, 401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert expired.encode() not in answer.body
        assert foreign.encode() not in answer.body


def test_the_token_comes_in_the_header_or_in_the_query(function: LambdaFunction, ann: Client) -> None:
    """The scheme in any case (RFC 9110, section 11.1); when both come, the header counts."""

    def ask(query: str, authorization: str | None = None) -> int:
        headers = {} if authorization is None else {"authorization": authorization}
        return function.invoke("GET", "/replay", query=f"after=earliest{query}", headers=headers).status

    assert ask(f"&token={ann.token}") == 200
    assert ask("", f"bearer {ann.token}") == 200
    assert ask("&token=bad", f"BEARER {ann.token}") == 200
    assert ask(f"&token={ann.token}", "Bearer bad") == 401


def test_a_topic_that_the_token_does_not_allow_is_403(function: LambdaFunction, ann: Client) -> None:
    """Even beside one that it does; nothing is answered in part, and the topic is not in the answer."""
    for topics in (("gmail:eve@example.com",), (TOPICS[0], "gmail:eve@example.com")):
        answer = ann.replay(*topics, after="earliest")
        check_problem(answer, 403, "topic_forbidden")
        assert b"eve" not in answer.body
    team = Client(function, "gmail:team-*")
    assert team.page("gmail:team-1@b.c", after="earliest")["events"] == []
    check_problem(team.replay("gmail:tea@b.c", after="earliest"), 403, "topic_forbidden")


def test_a_token_with_a_prefix_needs_the_topics_to_be_named(function: LambdaFunction) -> None:
    """A prefix is no list."""
    check_problem(Client(function, "gmail:*").replay(after="earliest"), 400, "topic_required")


@pytest.mark.parametrize("topic", ["", "a b", "a,b", "a\n", "ä", "*", "a" * 321])
def test_a_bad_topic_is_refused(ann: Client, topic: str) -> None:
    """Before anything else is looked at."""
    check_problem(ann.replay(topic, after="earliest"), 400, "bad_topic")


def test_more_than_fifty_topics_are_refused(function: LambdaFunction) -> None:
    """Fifty are not."""
    everything = Client(function, "*")
    assert everything.page(*[f"t{n}" for n in range(50)], after="earliest")["events"] == []
    check_problem(everything.replay(*[f"t{n}" for n in range(51)], after="earliest"), 400, "too_many_topics")


# -- the rest


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/events"), ("GET", "/replay/x"), ("POST", "/")])
def test_any_other_path_is_404(function: LambdaFunction, method: str, path: str) -> None:
    """As a problem."""
    check_problem(function.invoke(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/replay", {"GET", "HEAD"}),
        ("DELETE", "/replay", {"GET", "HEAD"}),
        ("GET", "/ack", {"POST"}),
        ("PUT", "/ack", {"POST"}),
        ("OPTIONS", "/ack", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_any_other_method_is_405(function: LambdaFunction, method: str, path: str, allowed: set[str]) -> None:
    """With the ones that are allowed."""
    answer = function.invoke(method, path)
    check_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def preflight(function: LambdaFunction, path: str, method: str, origin: str) -> Answer:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type",
    }
    return function.invoke("OPTIONS", path, headers=headers)


@pytest.mark.parametrize(("path", "method"), [("/replay", "GET"), ("/ack", "POST")])
def test_a_preflight_of_an_allowed_origin_is_answered(function: LambdaFunction, path: str, method: str) -> None:
    """Without a token: browsers send none with it. The origin is named, not starred; no credentials."""
    answer = preflight(function, path, method, ORIGIN)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "last-event-id"} <= set(allowed)
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}.evil.example", "null", "http://app.example"])
def test_a_preflight_of_another_origin_is_refused(function: LambdaFunction, origin: str) -> None:
    """Nothing in the answer would let the browser go on."""
    answer = preflight(function, "/replay", "GET", origin)
    check_problem(answer, 400, "cors_refused")
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in answer.headers


def test_an_answer_may_be_read_by_an_allowed_origin_only(function: LambdaFunction, ann: Client) -> None:
    """Errors too: a page has to be able to tell an expired token from a network that is down."""
    for headers, status in (({}, 401), (ann.headers, 200)):
        answer = function.invoke("GET", "/replay", query="after=earliest", headers={**headers, "origin": ORIGIN})
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "origin" in answer.headers["vary"].lower()
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= exposed
        foreign = {**headers, "origin": "https://evil.example"}
        answer = function.invoke("GET", "/replay", query="after=earliest", headers=foreign)
        assert "access-control-allow-origin" not in answer.headers


def test_without_a_list_no_origin_is_allowed(gateway: Gateway, stage: str) -> None:
    """The default."""
    with deployed(HANDLER, environment(gateway, stage)) as function:
        assert "access-control-allow-origin" not in preflight(function, "/replay", "GET", ORIGIN).headers


def test_healthz_tells_whether_redis_answers(function: LambdaFunction, gateway: Gateway, stage: str) -> None:
    """200, or 503 with the name of what does not."""
    answer = function.invoke("GET", "/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok", "checks": {"log": "ok"}})
    away = environment(gateway, stage, UPSTASH_REDIS_REST_URL=f"http://127.0.0.1:{free_port()}")
    with deployed(HANDLER, away) as lost:
        answer = lost.invoke("GET", "/healthz")
    assert (answer.status, answer.json()["checks"]) == (503, {"log": "log_unavailable"})


def test_without_redis_a_page_and_an_ack_are_503(gateway: Gateway, stage: str) -> None:
    """With Retry-After; bad requests are still told what they are."""
    away = environment(gateway, stage, UPSTASH_REDIS_REST_URL=f"http://127.0.0.1:{free_port()}")
    with deployed(HANDLER, away) as function:
        ann = Client(function)
        for answer in (
            ann.replay(after="earliest"),
            ann.replay(after="acked", client="tab"),
            ann.replay(after="1-1"),
            ann.ack("0-0"),
        ):
            check_problem(answer, 503, "log_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        check_problem(ann.replay(after="x"), 400, "bad_cursor")


async def test_a_redis_that_comes_back_is_used_again(redis_server: Any, stage: str) -> None:
    """What was refused for a while needs no restart."""
    async with FaultyGateway.running(redis_server.url) as gateway:
        gateway.refuse = lambda _name: GatewayAnswer(502, b"<html>Bad Gateway</html>")

        def use() -> None:
            with deployed(HANDLER, environment(gateway, stage)) as function:
                ann = Client(function)
                answer = ann.replay(after="earliest")
                check_problem(answer, 503, "log_unavailable")
                assert b"html" not in answer.body
                gateway.refuse = lambda _name: None
                assert ann.page(after="earliest")["events"] == []

        await asyncio.to_thread(use)


def test_a_page_is_one_request_to_redis_besides_the_rate_limit_and_an_ack_too(
    gateway: Gateway, ann: Client, mail: Mail
) -> None:
    """Any number of topics, one warm connection. ``after=acked`` costs one more, to look up the ack."""
    mail.push(ANN, BEN)
    ann.page(after="earliest")
    before = gateway.stats()
    ann.page(after="earliest")
    ann.ack("0-0")
    ann.page(after="acked", client="tab")
    after = gateway.stats()
    assert after["requests"]["command"] - before["requests"]["command"] == 4 + 3
    assert after["connections"]["seen"] == before["connections"]["seen"]
