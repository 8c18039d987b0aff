"""How a push is taken while the log, the queue or both are away: kept before it is answered, and answered in time.

The webhook is started cold, as a process of its own; the log is real behind a gateway that this file breaks, and so
are the queues, from which the deliver function brings everything into the log afterwards.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from infra.local.queues import CONFIRMATION, DEAD_LETTERS, DELIVERY
from shared.delivery import Death
from shared.keys import Keys
from tests.support.alarm_lines import rung
from tests.support.broken_servers import broken
from tests.support.deliver_rig import DeliverRig
from tests.support.faulty_gateway import Answer as GatewayAnswer
from tests.support.faulty_gateway import FaultyGateway
from tests.support.intake import ANSWER_S, push_of, queued, refused, webhook
from tests.support.key_server import KeyServer
from tests.support.signing import PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, push_token

APPEND_S = 1.5
FAILING_S = 0.5
#: What a process of a busy machine may take besides.
SLACK_S = 0.45


@pytest.fixture
def rig(deliveries: DeliverRig) -> DeliverRig:
    return deliveries


# -- time


async def test_the_log_has_one_and_a_half_seconds_and_half_a_second_after_a_failure_until_it_answers(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """Who comes second waits less for nothing. Each is in the queue when it is answered."""
    took_s = []
    async with webhook(rig.settings()) as process:
        with faulty.holding("append", before=True):
            for number in range(3):
                answer = await process.push(push_of(number))
                assert queued(answer)
                assert rig.held() == number + 1
                took_s.append(process.took_s)
        assert (await process.push(push_of(3))).json()["status"] == "published"
        with faulty.holding("append", before=True):
            assert queued(await process.push(push_of(4)))
            took_s.append(process.took_s)
    for took, budget_s in zip(took_s, (APPEND_S, FAILING_S, FAILING_S, APPEND_S), strict=True):
        assert budget_s <= took < budget_s + SLACK_S


@pytest.mark.parametrize(
    ("log", "queue", "settings"),
    [
        ("hangs", "hangs", {}),
        ("hangs", "hangs", {"TIDEMARK_CONFIRM_S": "60"}),
        ("hangs", "halves", {}),
        ("hangs", "drips", {}),
        ("hangs", "garbage", {}),
        ("hangs", "yes", {}),
        ("hangs", "refuses", {"TIDEMARK_CONFIRM_S": "60"}),
        ("halves", "hangs", {}),
        ("drips", "drips", {}),
        ("garbage", "hangs", {}),
        ("yes", "hangs", {}),
        ("refuses", "hangs", {"TIDEMARK_CONFIRM_S": "60"}),
        ("refuses", "refuses", {}),
    ],
)
async def test_with_log_and_queue_away_the_answer_is_503_within_3_s(
    rig: DeliverRig, log: str, queue: str, settings: dict[str, str]
) -> None:
    """However either of them is broken, and loading of the signer in a fresh process included."""
    async with broken(log) as log_url, broken(queue) as queue_url:
        settings = rig.settings(
            UPSTASH_REDIS_REST_URL=log_url,
            TIDEMARK_QUEUE_URL=f"{queue_url}/000000000000/{DELIVERY}",
            TIDEMARK_CONFIRM_QUEUE_URL=f"{queue_url}/000000000000/{CONFIRMATION}",
            **settings,
        )
        async with webhook(settings) as process:
            refused(await process.push(push_of(1)))
            assert process.took_s < ANSWER_S
            assert "PushLeft" in rung(process.logged())


async def test_an_answer_takes_3_s_also_when_the_keys_had_to_be_fetched_first(rig: DeliverRig) -> None:
    """What the key server has taken is taken off from what the log and the queue get."""
    issuer = Issuer.rsa()
    async with broken("hangs") as url, KeyServer.running(issuer.jwk()) as keys:
        settings = rig.settings(
            UPSTASH_REDIS_REST_URL=url,
            TIDEMARK_QUEUE_URL=f"{url}/000000000000/{DELIVERY}",
            TIDEMARK_PUSH_AUTH="on",
            TIDEMARK_PUSH_AUDIENCE=PUSH_AUDIENCE,
            TIDEMARK_PUSH_SERVICE_ACCOUNT=PUSH_ACCOUNT,
            TIDEMARK_PUSH_JWKS_URL=keys.url,
        )
        async with webhook(settings) as process:
            keys.open.clear()
            asyncio.get_running_loop().call_later(1.7, keys.open.set)
            token = push_token(issuer, time.time())
            answer = await process.push(push_of(1), authorization=f"Bearer {token}")
    refused(answer)
    assert process.took_s < ANSWER_S


async def test_a_queue_that_hangs_costs_nothing_while_the_log_is_well(rig: DeliverRig) -> None:
    """It is not asked, and what it needs is not even loaded."""
    async with broken("hangs") as url:
        settings = rig.settings(TIDEMARK_QUEUE_URL=f"{url}/000000000000/{DELIVERY}")
        async with webhook(settings) as process:
            for number in range(3):
                assert (await process.push(push_of(number))).json()["status"] == "published"
            assert process.took_s < FAILING_S
            # Powertools looks whether botocore is there; what signs requests is another matter.
            assert not {"botocore.auth", "botocore.session", "boto3"} & process.modules


# -- what is away


TROUBLES = {
    "quota": ("quota", GatewayAnswer.error("ERR max requests limit exceeded. Limit: 10000, Usage: 10000.")),
    "daily quota": ("quota", GatewayAnswer.error("ERR max daily request limit exceeded")),
    "loading": ("loading", GatewayAnswer.error("LOADING Redis is loading the dataset in memory")),
    "read only": ("read_only", GatewayAnswer.error("READONLY You can't write against a read only replica.")),
    "read only in a script": (
        "read_only",
        GatewayAnswer.error(
            "ERR Error running script (call to f_1): @user_script:63: -READONLY You can't write against a read "
            "only replica."
        ),
    ),
    "rotated token": ("credentials", GatewayAnswer(401, b'{"error":"WRONGPASS invalid or missing auth token"}')),
    "a page": ("unreadable", GatewayAnswer(502, b"<html>Bad Gateway</html>", ((b"content-type", b"text/html"),))),
    "half an answer": ("unreadable", GatewayAnswer(200, b'{"result":["17')),
    "nothing": ("unreadable", GatewayAnswer(200, b"")),
    "another answer": ("unreadable", GatewayAnswer(200, b'{"result":"OK"}')),
    "unknown words": ("other", GatewayAnswer.error("ERR something that nobody has seen before")),
    "server error": ("other", GatewayAnswer(500, b'{"error":"Internal Server Error"}')),
}


@pytest.mark.parametrize(("trouble", "answer"), TROUBLES.values(), ids=TROUBLES)
async def test_whatever_keeps_the_log_from_serving_the_push_is_queued_and_arrives_when_it_is_over(
    rig: DeliverRig, faulty: FaultyGateway, trouble: str, answer: GatewayAnswer
) -> None:
    """One line of the log says what it is, so that somebody can do something about it; nothing is lost."""
    faulty.refuse = lambda _name: answer
    async with webhook(rig.settings()) as process:
        assert queued(await process.push(push_of(1)))
        (line,) = [line for line in process.logged() if line["message"] == "push queued"]
        assert (line["level"], line["trouble"]) == ("WARNING", trouble)
        # And the deliver function says the same.
        assert len((await rig.run()).failed) == 1
        faulty.refuse = lambda _name: None
        rig.clock.now_s += 15
        assert (await rig.run()).failed == []
        # A redelivery of Pub/Sub finds it there.
        assert (await process.push(push_of(1))).json()["status"] == "duplicate"
    assert await rig.numbers() == ["1"]
    assert rig.held() == rig.held(DEAD_LETTERS) == 0


async def test_a_token_that_was_rotated_away_loses_nothing(rig: DeliverRig) -> None:
    """The gateway's own refusal. The function with the new token brings in what the one with the old token took."""
    async with webhook(rig.settings(UPSTASH_REDIS_REST_TOKEN="the-one-before")) as process:
        assert queued(await process.push(push_of(1)))
        (line,) = [line for line in process.logged() if line["message"] == "push queued"]
        assert line["trouble"] == "credentials"
    assert (await rig.run()).failed == []
    assert await rig.numbers() == ["1"]


async def test_a_defect_of_the_log_holds_up_one_mailbox_and_ends_among_the_dead_letters(rig: DeliverRig) -> None:
    """It is queued, which slows down nobody, and reported as an error: no waiting will mend it."""
    await rig.redis("SET", Keys(rig.stage).log("gmail:box1@example.com"), "not a log")
    async with webhook(rig.settings()) as process:
        for number in range(6):
            answer = await process.push(push_of(number, mailbox="box1@example.com"))
            assert queued(answer)
            other = await process.push(push_of(100 + number, mailbox="box2@example.com"))
            # The breaker stays closed: the log is there.
            assert other.json()["status"] == "published"
        lines = [line for line in process.logged() if line["message"] == "push queued"]
        assert [(line["level"], line["code"]) for line in lines] == [("ERROR", "log_defect")] * 6
    assert (await rig.run()).failed == []
    assert {(letter.death, letter.attempts) for letter in rig.letters()} == {(Death.UNKNOWN, 3)}
    assert rig.held(DEAD_LETTERS) == 6
    assert rig.held() == 0


async def test_while_the_breaker_is_open_neither_the_log_nor_the_limiter_is_asked(
    rig: DeliverRig, faulty: FaultyGateway
) -> None:
    """The answer comes at once. A line says that it opened; the pushes behind it add none each."""
    faulty.refuse = lambda name: GatewayAnswer.error("READONLY") if name == "append" else None
    async with webhook(rig.settings()) as process:
        for number in range(5):
            assert queued(await process.push(push_of(number)))
        asked, lines = faulty.total(), len(process.logged())
        began = time.monotonic()
        answers = [await process.push(push_of(number)) for number in range(5, 15)]
        if time.monotonic() - began < 0.9:  # then it has tried again, as it should
            assert faulty.total() == asked
            assert len(process.logged()) == lines
        assert all(queued(answer) for answer in answers)
        (opened,) = [line for line in process.logged() if line.get("state") == "open"][:1]
        assert (opened["level"], opened["reason"]) == ("WARNING", "READONLY")
    assert rig.held() == 15
