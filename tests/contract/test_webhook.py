"""`POST /push` as the contract says, through Mangum, to a real Redis behind the real gateway."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.keys import Keys
from shared.position import Position
from tests.support.faulty_gateway import Answer as GatewayAnswer
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import ROOT, Gateway, free_port
from tests.support.lambda_events import (
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    process_environment,
    redis_command,
)
from tests.support.lambda_process import LambdaProcess
from tests.support.log_rig import own_stage
from tests.support.queue_server import QueueServerProcess
from tests.support.sqs import Sqs

HANDLER = "functions.webhook.handler"
BOX = "ann@example.com"
SUBSCRIPTION = "projects/p/subscriptions/s"
KIB = 1024


class Kept:
    """What Redis holds of one stage."""

    def __init__(self, gateway: Any, stage: str) -> None:
        self._gateway = gateway
        self.keys = Keys(stage)

    def envelopes(self, mailbox: str = BOX) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of a mailbox, each with its position."""
        entries = redis_command(self._gateway, "XRANGE", self.keys.log(f"gmail:{mailbox.lower()}"), "-", "+")
        return [
            (position, json.loads(dict(zip(flat[::2], flat[1::2], strict=True))["e"])) for position, flat in entries
        ]

    def parked(self) -> list[dict[str, Any]]:
        """Return what is parked, newest first."""
        return [json.loads(text) for text in redis_command(self._gateway, "LRANGE", self.keys.parked, 0, -1)]

    def names(self) -> list[str]:
        """Return the name of every key, without the counters of rate limits."""
        found: list[str] = redis_command(self._gateway, "KEYS", f"tidemark:{self.keys.stage}:*")
        return sorted(name for name in found if ":limit:" not in name)


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def kept(gateway: Gateway, stage: str) -> Kept:
    return Kept(gateway, stage)


@pytest.fixture
def webhook(gateway: Gateway, stage: str) -> Iterator[LambdaFunction]:
    with deployed(HANDLER, environment(gateway, stage)) as function:
        yield function


def encoded(data: Any) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()


def wrapped(gmail: Any = ..., /, *, subscription: Any = SUBSCRIPTION, **message: Any) -> bytes:
    """Build a wrapped push; ``...`` for a member leaves it out."""
    data = {"emailAddress": BOX, "historyId": 9876543210} if gmail is ... else gmail
    members = {"data": encoded(data), "messageId": "m-1", "publishTime": "2026-11-23T13:59:59.5Z", **message}
    body = {
        "message": {name: value for name, value in members.items() if value is not ...},
        "subscription": subscription,
    }
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


# -- what is stored


def test_a_push_is_answered_with_its_position_once_it_is_in_the_log(webhook: LambdaFunction, kept: Kept) -> None:
    """200 ``published``; the envelope in Redis is the contract's, without a position of its own."""
    answer = webhook.invoke("POST", "/push", body=wrapped())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told.keys() == {"status", "id"}
    assert told["status"] == "published"
    assert kept.envelopes() == [
        (
            told["id"],
            {
                "specversion": "1.0",
                "id": "m-1",
                "source": f"//pubsub.googleapis.com/{SUBSCRIPTION}",
                "type": "gmail.mailbox.changed",
                "subject": BOX,
                "time": "2026-11-23T13:59:59.5Z",
                "topic": f"gmail:{BOX}",
                "data": {"emailAddress": BOX, "historyId": "9876543210"},
            },
        )
    ]


def test_a_redelivery_is_answered_with_the_position_of_the_first(webhook: LambdaFunction, kept: Kept) -> None:
    """Known by subscription and messageId, whatever else has changed; nothing is stored a second time."""
    first = webhook.invoke("POST", "/push", body=wrapped()).json()
    changed = wrapped({"emailAddress": BOX, "historyId": 1}, publishTime="2027-01-01T00:00:00Z")
    for body in (wrapped(), changed):
        answer = webhook.invoke("POST", "/push", body=body)
        assert (answer.status, answer.json()) == (200, {"status": "duplicate", "id": first["id"]})
    assert len(kept.envelopes()) == 1


def test_another_message_or_another_subscription_is_no_redelivery(webhook: LambdaFunction, kept: Kept) -> None:
    """Message ids are unique within a subscription only."""
    bodies = [wrapped(), wrapped(messageId="m-2"), wrapped(subscription="projects/p/subscriptions/other")]
    answers = [webhook.invoke("POST", "/push", body=body).json() for body in bodies]
    assert [answer["status"] for answer in answers] == ["published"] * 3
    assert [position for position, _ in kept.envelopes()] == [answer["id"] for answer in answers]


def test_the_unwrapped_form_is_the_same_push(webhook: LambdaFunction, kept: Kept) -> None:
    """Raw data and headers: stored alike, and known again in either form."""
    headers = {
        "content-type": "application/octet-stream",
        "X-Goog-Pubsub-Subscription-Name": SUBSCRIPTION,
        "X-Goog-Pubsub-Message-Id": "m-1",
        "X-Goog-Pubsub-Publish-Time": "2026-11-23T13:59:59.5Z",
        "X-Goog-Pubsub-Ordering-Key": "k",
    }
    body = json.dumps({"emailAddress": BOX, "historyId": 9876543210}).encode()
    first = webhook.invoke("POST", "/push", headers=headers, body=body).json()
    assert first["status"] == "published"
    assert webhook.invoke("POST", "/push", body=wrapped()).json() == {"status": "duplicate", "id": first["id"]}
    assert kept.envelopes()[0][1]["time"] == "2026-11-23T13:59:59.5Z"


def test_a_body_in_base64_is_the_same_push(webhook: LambdaFunction, kept: Kept) -> None:
    """The function URL encodes what it holds for binary."""
    assert webhook.invoke("POST", "/push", body=wrapped(), encoded=True).json()["status"] == "published"
    assert webhook.invoke("POST", "/push", body=wrapped()).json()["status"] == "duplicate"
    assert len(kept.envelopes()) == 1


def test_positions_rise_over_all_mailboxes(webhook: LambdaFunction) -> None:
    """One order, so that one cursor resumes any set of topics."""
    bodies = [wrapped({"emailAddress": f"{n % 3}@b.c", "historyId": n}, messageId=f"m-{n}") for n in range(20)]
    positions = [Position.parse(webhook.invoke("POST", "/push", body=body).json()["id"]) for body in bodies]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize(
    ("history_id", "text"),
    [
        (9876543210, "9876543210"),
        ("9876543210", "9876543210"),
        (0, "0"),
        (2**53 + 1, "9007199254740993"),
        (2**63, "9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (str(2**64 - 1), "18446744073709551615"),
    ],
)
def test_a_history_id_goes_out_as_a_string_without_losing_a_digit(
    webhook: LambdaFunction, kept: Kept, history_id: int | str, text: str
) -> None:
    """Number or string, up to 64 bits."""
    body = wrapped({"emailAddress": BOX, "historyId": history_id})
    assert webhook.invoke("POST", "/push", body=body).json()["status"] == "published"
    assert kept.envelopes()[0][1]["data"] == {"emailAddress": BOX, "historyId": text}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
def test_data_comes_in_any_base64(webhook: LambdaFunction, kept: Kept, alphabet: Any, *, padded: bool) -> None:
    """Standard or URL-safe, padded or not."""
    data = '{"emailAddress":"ann@example.com","historyId":"7","ÿþ":"ûÿ¿"}'.encode()  # has digits of both alphabets
    text = alphabet(data).decode()
    assert any(digit in text for digit in "+/-_")
    body = wrapped(data=text if padded else text.rstrip("="))
    assert webhook.invoke("POST", "/push", body=body).json()["status"] == "published"
    assert kept.envelopes()[0][1]["data"]["historyId"] == "7"


@pytest.mark.parametrize(
    ("address", "topic"),
    [
        ("Ann@EXAMPLE.com", "gmail:ann@example.com"),
        ("o'neill+tag@example.com", "gmail:o'neill+tag@example.com"),
        ("a" * 302 + "@example.com", "gmail:" + "a" * 302 + "@example.com"),
    ],
)
def test_an_address_is_followed_in_lower_case(webhook: LambdaFunction, kept: Kept, address: str, topic: str) -> None:
    """Capitals and apostrophes are legal; the data keeps them, topic and subject are lower case."""
    body = wrapped({"emailAddress": address, "historyId": 1})
    assert webhook.invoke("POST", "/push", body=body).json()["status"] == "published"
    [(_, envelope)] = kept.envelopes(address)
    assert (envelope["topic"], envelope["subject"]) == (topic, address.lower())
    assert envelope["data"]["emailAddress"] == address


@pytest.mark.parametrize(
    "body",
    [
        wrapped(messageId=..., message_id="m-1"),
        wrapped(message_id="other"),
        wrapped(attributes={"a": "b"}, orderingKey="k", new={"deep": [1]}),
        json.dumps({**json.loads(wrapped()), "deliveryAttempt": 3, "other": "x"}).encode(),
        wrapped({"emailAddress": BOX, "historyId": 9876543210, "expiration": "1", "x": "\r\n\r\ndata: {}"}),
    ],
    ids=["message_id", "both ids", "message members", "push members", "data members"],
)
def test_what_google_may_add_or_spell_otherwise_changes_nothing(
    webhook: LambdaFunction, kept: Kept, body: bytes
) -> None:
    """Known members are read, all others are not."""
    assert webhook.invoke("POST", "/push", body=body).json()["status"] == "published"
    [(_, envelope)] = kept.envelopes()
    assert envelope["id"] == "m-1"
    assert envelope["data"] == {"emailAddress": BOX, "historyId": "9876543210"}
    assert webhook.invoke("POST", "/push", body=wrapped()).json()["status"] == "duplicate"


@pytest.mark.parametrize("moment", [..., None, "", 7, "yesterday", "2026-11-23T13:59:59Z\r\nid: 1-1"])
def test_a_publish_time_that_is_none_is_replaced_by_the_time_of_receipt(
    webhook: LambdaFunction, kept: Kept, moment: Any
) -> None:
    """No reason to lose an event."""
    before = datetime.now(UTC)
    assert webhook.invoke("POST", "/push", body=wrapped(publishTime=moment)).json()["status"] == "published"
    after = datetime.now(UTC)
    [(position, envelope)] = kept.envelopes()
    assert len(envelope["time"]) == len("2026-11-23T14:00:00.123Z")
    millisecond = timedelta(milliseconds=1)  # what the envelope's time is cut off to
    assert before - millisecond <= datetime.fromisoformat(envelope["time"]) <= after
    assert Position.parse(position).ms > 0


# -- what can never be read

BROKEN = {
    "empty body": (b"", "body is not JSON"),
    "not JSON": (b"hello", "body is not JSON"),
    "half of it": (wrapped()[:-9], "body is not JSON"),
    "invalid UTF-8": (b'{"message":"\xff\xfe"}', "body is not JSON"),
    "deep nesting": (b'{"message":' + b"[" * 100_000, "body is nested too deeply"),
    "a JSON array": (b"[]", "body is not a JSON object"),
    "no message": (b"{}", "no message"),
    "no subscription": (wrapped(subscription=...), "no subscription"),
    "no messageId": (wrapped(messageId=...), "no messageId"),
    "messageId is a number": (wrapped(messageId=7), "no messageId"),
    "messageId breaks lines": (wrapped(messageId="m\r\nid: 9-9"), "no messageId"),
    "messageId with U+2028": (wrapped(messageId="m\u2028"), "no messageId"),
    "messageId with NUL": (wrapped(messageId="m\0"), "no messageId"),
    "no data": (wrapped(data=...), "no data"),
    "bad base64": (wrapped(data="%%%"), "bad base64"),
    "base64 of one digit": (wrapped(data="e"), "bad base64"),
    "data is not JSON": (wrapped(b"hello"), "data is not JSON"),
    "data is invalid UTF-8": (wrapped(b'{"emailAddress":"\xff"}'), "data is not JSON"),
    "data is deep": (wrapped(b"[" * 50_000), "data is nested too deeply"),
    "data is an array": (wrapped([]), "data is not a JSON object"),
    "no emailAddress": (wrapped({"historyId": 1}), "no emailAddress"),
    "address with a comma": (wrapped({"emailAddress": "a,b@c.d", "historyId": 1}), "emailAddress cannot be a topic"),
    "address with a line end": (
        wrapped({"emailAddress": "a@b.c\n", "historyId": 1}),
        "emailAddress cannot be a topic",
    ),
    "address of 400 characters": (
        wrapped({"emailAddress": "a" * 396 + "@b.c", "historyId": 1}),
        "emailAddress cannot be a topic",
    ),
    "address in Unicode": (wrapped({"emailAddress": "ä@b.c", "historyId": 1}), "emailAddress cannot be a topic"),
    "address with a Kelvin sign": (
        wrapped({"emailAddress": "\u212aate@b.c", "historyId": 1}),
        "emailAddress cannot be a topic",
    ),
    "no historyId": (wrapped({"emailAddress": BOX}), "no historyId"),
    "historyId is negative": (wrapped({"emailAddress": BOX, "historyId": -1}), "no historyId"),
    "historyId is a fraction": (wrapped({"emailAddress": BOX, "historyId": 1.5}), "no historyId"),
    "historyId is a truth": (wrapped({"emailAddress": BOX, "historyId": True}), "no historyId"),
    "historyId is too large": (wrapped({"emailAddress": BOX, "historyId": 2**64}), "no historyId"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_can_never_be_read_is_acknowledged_and_parked(
    webhook: LambdaFunction, kept: Kept, body: bytes, reason: str
) -> None:
    """A refusal would slow down every mailbox. It waits whole, with the reason, for a person; nothing is stored."""
    answer = webhook.invoke("POST", "/push", body=body, encoded=True)
    assert (answer.status, answer.json()) == (200, {"status": "rejected", "reason": reason})
    assert answer.headers["cache-control"] == "no-store"
    [parked] = kept.parked()
    assert parked["reason"] == reason
    assert base64.b64decode(parked["head"]) == body
    assert (parked["size"], parked["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert parked["received_at"].endswith("Z")
    assert kept.names() == [kept.keys.parked]


def test_the_newest_parked_push_stands_first_and_none_waits_for_ever(webhook: LambdaFunction, kept: Kept) -> None:
    """A list that is bounded in number and time: 14 days, as the dead letters."""
    for body in (b"one", b"two", b"two"):
        assert webhook.invoke("POST", "/push", body=body).json()["status"] == "rejected"
    assert [base64.b64decode(push["head"]) for push in kept.parked()] == [b"two", b"two", b"one"]


def test_what_is_parked_is_kept_for_fourteen_days(webhook: LambdaFunction, kept: Kept, gateway: Gateway) -> None:
    """And then it is gone by itself."""
    webhook.invoke("POST", "/push", body=b"x")
    assert 14 * 86_400 - 60 <= redis_command(gateway, "TTL", kept.keys.parked) <= 14 * 86_400


def filled(size: int) -> bytes:
    """Give a good push of just this size: JSON may hold any amount of white space."""
    body = wrapped()
    return body + b" " * (size - len(body))


def test_a_push_of_256_kib_is_read(webhook: LambdaFunction, kept: Kept) -> None:
    """The limit itself is allowed."""
    assert webhook.invoke("POST", "/push", body=filled(256 * KIB)).json()["status"] == "published"
    assert len(kept.envelopes()) == 1


@pytest.mark.parametrize("size", [256 * KIB + 1, 5 * KIB * KIB])
def test_a_push_over_256_kib_is_parked_as_hash_size_and_head(webhook: LambdaFunction, kept: Kept, size: int) -> None:
    """Good or not, it is not read; and Redis is not filled with it."""
    body = filled(size)
    answer = webhook.invoke("POST", "/push", body=body)
    assert (answer.status, answer.json()) == (200, {"status": "rejected", "reason": "over 256 KiB"})
    [parked] = kept.parked()
    assert base64.b64decode(parked["head"]) == body[:1024]
    assert (parked["size"], parked["sha256"]) == (size, hashlib.sha256(body).hexdigest())
    assert kept.envelopes() == []


def test_a_body_that_no_pub_sub_message_can_have_is_413(webhook: LambdaFunction, kept: Kept) -> None:
    """15 MiB: it is not Google's, and it is not read to its end. Nothing is parked."""
    answer = webhook.invoke("POST", "/push", body=b"x" * (15 * KIB * KIB + 1))
    check_problem(answer, 413, "body_too_large")
    assert kept.names() == []


# -- Redis


def test_invocations_keep_their_connections_and_a_push_is_one_request_beside_the_rate_limit(
    gateway: Gateway, webhook: LambdaFunction
) -> None:
    """No connection is built per call, and publishing costs one round trip; so does a duplicate, and a parked one.

    The rate limit is counted after that, on the same connection.
    """
    before = gateway.stats()
    bodies = [wrapped(), wrapped(messageId="m-2"), wrapped(), b"broken"]
    for number, body in enumerate(bodies, 1):
        assert webhook.invoke("POST", "/push", body=body).status == 200
        now = gateway.stats()
        assert now["connections"]["seen"] - before["connections"]["seen"] == 1
        assert now["requests"]["command"] - before["requests"]["command"] == 2 * number
        assert now["requests"]["pipeline"] == before["requests"]["pipeline"]


@pytest.mark.parametrize("body", [wrapped(), b"broken", filled(300 * KIB)], ids=["good", "broken", "large"])
def test_without_redis_nothing_is_acknowledged(stage: str, body: bytes) -> None:
    """503 and Retry-After: Pub/Sub keeps it and sends it again. The answer comes within 3 s."""
    settings = {
        "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{free_port()}",
        "UPSTASH_REDIS_REST_TOKEN": "t",
        "TIDEMARK_STAGE": stage,
        "TIDEMARK_PUSH_AUTH": "off",
    }
    with deployed(HANDLER, settings) as webhook:
        began = time.monotonic()
        answer = webhook.invoke("POST", "/push", body=body)
        assert time.monotonic() - began < 3
    check_problem(answer, 503, "log_unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "text", ["READONLY You can't write against a read only replica.", "LOADING", "ERR max requests limit exceeded"]
)
@pytest.mark.parametrize(("refused", "body"), [("append", wrapped()), ("EVAL", b"broken")], ids=["log", "parking"])
async def test_a_redis_that_refuses_for_now_is_told_as_503_and_holds_nothing(
    redis_server: Any, stage: str, refused: str, body: bytes, text: str
) -> None:
    """A demoted primary, a restart, a quota.

    A push that cannot be stored is not parked instead, and one that cannot be parked is not acknowledged.
    """
    async with FaultyGateway.running(redis_server.url) as gateway:
        gateway.refuse = lambda name: GatewayAnswer.error(text) if name == refused else None

        def use() -> list[str]:
            with deployed(HANDLER, environment(gateway, stage)) as webhook:
                answer = webhook.invoke("POST", "/push", body=body)
                check_problem(answer, 503, "log_unavailable")
                assert int(answer.headers["retry-after"]) > 0
                assert text not in answer.body.decode()
                names = Kept(gateway, stage).names()
                gateway.refuse = lambda _name: None
                # And it heals by itself.
                assert webhook.invoke("POST", "/push", body=body).status == 200
            return names

        assert await asyncio.to_thread(use) == []


async def test_a_redis_that_does_not_answer_is_told_as_503_within_3_s(redis_server: Any, stage: str) -> None:
    """The append is given 1.5 s, its repetition included."""
    async with FaultyGateway.running(redis_server.url) as gateway:

        def use() -> float:
            with deployed(HANDLER, environment(gateway, stage)) as webhook:
                began = time.monotonic()
                check_problem(webhook.invoke("POST", "/push", body=wrapped()), 503, "log_unavailable")
                return time.monotonic() - began

        with gateway.holding("append", before=True):
            assert await asyncio.to_thread(use) < 3


async def test_an_append_whose_answer_was_lost_is_not_stored_twice(redis_server: Any, stage: str) -> None:
    """It is tried again at once, and the second try finds what the first has stored."""
    async with FaultyGateway.running(redis_server.url) as gateway:
        gateway.lose_answers("append")

        def use() -> tuple[dict[str, Any], int]:
            with deployed(HANDLER, environment(gateway, stage)) as webhook:
                told = webhook.invoke("POST", "/push", body=wrapped()).json()
            return told, len(Kept(gateway, stage).envelopes())

        told, stored = await asyncio.to_thread(use)
        assert stored == 1
        assert told["status"] in ("published", "duplicate")


# -- everything else


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/"), ("POST", "/push/x"), ("GET", "/events")])
def test_any_other_path_is_404(webhook: LambdaFunction, method: str, path: str) -> None:
    """Each function serves its own endpoints only."""
    check_problem(webhook.invoke(method, path), 404, "not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_any_other_method_is_405(webhook: LambdaFunction, method: str) -> None:
    """With the one that is allowed. No CORS: browsers have no business here."""
    answer = webhook.invoke(method, "/push", headers={"origin": "https://a.example"})
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    if method != "HEAD":
        check_problem(answer, 405, "method_not_allowed")


def test_healthz_is_ok_when_redis_answers(webhook: LambdaFunction) -> None:
    """And says which of its dependencies do."""
    answer = webhook.invoke("GET", "/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok", "checks": {"log": "ok"}})
    assert answer.headers["cache-control"] == "no-store"


def test_healthz_tells_of_every_queue_that_a_push_may_need(
    gateway: Gateway, stage: str, queue_server: QueueServerProcess, ours: Sqs
) -> None:
    """A queue that is not there, too: each push of its kind would be refused."""
    settings = environment(
        gateway,
        stage,
        **queue_server.environment,
        TIDEMARK_QUEUE_URL=ours.fifo().url,
        TIDEMARK_DEAD_LETTER_URL=ours.queue().url,
        TIDEMARK_CONFIRM_QUEUE_URL=queue_server.queue_url("nowhere"),
        TIDEMARK_CONFIRM_S="30",
    )
    with LambdaProcess.running(HANDLER, settings) as webhook:
        answer = webhook.invoke("GET", "/healthz")
    assert answer.status == 503
    told = {"log": "ok", "queue": "ok", "confirmation": "queue_unavailable", "dead_letters": "ok"}
    assert answer.json() == {"status": "unavailable", "checks": told}


def test_healthz_names_what_does_not_answer(stage: str) -> None:
    """503, and nothing about why."""
    settings = {
        "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{free_port()}",
        "UPSTASH_REDIS_REST_TOKEN": "secret-token",
        "TIDEMARK_STAGE": stage,
        "TIDEMARK_PUSH_AUTH": "off",
    }
    with deployed(HANDLER, settings) as webhook:
        answer = webhook.invoke("GET", "/healthz")
    assert answer.status == 503
    assert answer.json() == {"status": "unavailable", "checks": {"log": "log_unavailable"}}
    assert answer.headers["cache-control"] == "no-store"


def test_no_answer_and_no_log_line_holds_an_address(
    webhook: LambdaFunction, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with a push."""
    bodies = [wrapped(), wrapped({"emailAddress": BOX}), wrapped({"emailAddress": BOX + ",", "historyId": 1})]
    with caplog.at_level(logging.DEBUG):
        answers = [webhook.invoke("POST", "/push", body=body) for body in bodies]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert not [answer for answer in answers if b"ann@" in answer.body]
    ours = [record for record in caplog.records if record.name.startswith("tidemark")]
    assert len(ours) >= 2
    assert not [record for record in ours if "ann@" in str(record.__dict__)]


# -- the real cold start


def test_a_cold_start_logs_json_and_serves_from_one_process(gateway: Gateway, kept: Kept, stage: str) -> None:
    """As Lambda runs it: the module is imported once, invoked twice, and its log is one JSON object a line."""
    before = gateway.stats()["connections"]["seen"]
    with LambdaProcess.running("functions.webhook.handler", environment(gateway, stage)) as process:
        answers = [process.invoke("POST", "/push", body=body) for body in (wrapped(), b"broken")]
        logged = process.logged()
    assert [answer.json()["status"] for answer in answers] == ["published", "rejected"]
    [rejected] = [line for line in logged if line["message"] == "push rejected and parked"]
    assert (rejected["level"], rejected["reason"], rejected["size"]) == ("WARNING", "body is not JSON", 6)
    assert (rejected["service"], rejected["function"]) == ("tidemark", "webhook")
    assert gateway.stats()["connections"]["seen"] - before == 1
    assert len(kept.envelopes()) == 1


@pytest.mark.parametrize("name", ["webhook", "replay", "stream"])
def test_a_missing_setting_stops_the_start_with_one_line(name: str) -> None:
    """It names every variable at fault; there is no traceback, and no secret is told."""
    settings = {
        "UPSTASH_REDIS_REST_TOKEN": "a secret",
        "TIDEMARK_TOKEN_KEYS": "a:short-secret",
        "TIDEMARK_STAGE": "!",
    }
    run = subprocess.run(
        [sys.executable, "-c", f"import functions.{name}.handler"],
        cwd=ROOT,
        env=process_environment(settings),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert line.startswith("settings: ")
    named = {"UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "TIDEMARK_STAGE"}
    named |= (
        {"TIDEMARK_PUSH_AUDIENCE", "TIDEMARK_PUSH_SERVICE_ACCOUNT"} if name == "webhook" else {"TIDEMARK_TOKEN_KEYS"}
    )
    assert {word for word in line.split() if word.startswith(("TIDEMARK_", "UPSTASH_"))} == named
    assert "secret" not in line.replace("kid:secret", "").replace("each secret", "")
    assert run.stdout == ""
