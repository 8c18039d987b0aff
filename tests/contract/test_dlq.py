"""`tidemark dlq` over the queue server: what is listed, shown and put back, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.backends import open_queue
from infra.redrive import Outcome, Redrive
from infra.sweep import sweeping
from shared.delivery import Death, Delivery
from shared.delivery_queue import DeliveryQueue
from tests.support.command import Command
from tests.support.deliver_process import delivering
from tests.support.gateway import eventually, free_port
from tests.support.queue_set import CAME_AT, SUBSCRIPTION, QueueSet, event, letter, raw_push, wrapped
from tests.support.stored import Stored

GMAIL = {"emailAddress": "ann@example.com", "historyId": 7}
ANN = "ann@example.com"
TOPIC = f"gmail:{ANN}"
TIMEOUT_S = 30.0


# -- list


def test_list_prints_a_line_for_each(queues: QueueSet, command: Command) -> None:
    """Events, pushes that could not be read, and what is no letter of ours: nothing is hidden. All stays."""
    ids = {
        "event": queues.bury(letter(event(1, returns=2), reason="WRONGTYPE")),
        "push": queues.bury(letter(raw_push(wrapped(GMAIL)), death=Death.POISON, reason="no historyId", attempts=1)),
        "foreign": queues.bury("somebody else's"),
    }
    ran = command("dlq", "list", settings=queues.settings)
    assert (ran.code, ran.err) == (0, "")
    found = {line["id"]: line for line in ran.lines()}
    assert found.keys() == set(ids.values())
    assert [found[ids[name]]["death"] for name in ids] == ["unknown", "poison", None]
    assert [found[ids[name]]["mailbox"] for name in ids] == ["ann@example.com", "ann@example.com", None]
    assert found[ids["event"]] == {
        "id": ids["event"],
        "death": "unknown",
        "reason": "WRONGTYPE",
        "first_seen": CAME_AT,
        "died_at": "2026-11-23T14:05:00.000Z",
        "attempts": 3,
        "returns": 2,
        "mailbox": "ann@example.com",
        "bytes": len(letter(event(1, returns=2), reason="WRONGTYPE").to_json()),
    }
    assert found[ids["foreign"]]["reason"] == "it cannot be read: is not JSON"
    assert queues.count(queues.dead_letters) == (3, 0, 0)


def test_list_goes_through_more_than_sqs_gives_at_a_time(queues: QueueSet, command: Command) -> None:
    """Each once."""
    ids = [queues.bury(letter(event(number))) for number in range(33)]
    ran = command("dlq", "list", settings=queues.settings)
    assert sorted(line["id"] for line in ran.lines()) == sorted(ids)
    assert ran.err == ""


@pytest.mark.parametrize(("limit", "more"), [(5, True), (10, True), (12, False), (50, False)])
def test_list_keeps_to_a_limit_and_says_whether_there_is_more(
    queues: QueueSet, command: Command, *, limit: int, more: bool
) -> None:
    """On stderr, for people."""
    for number in range(12):
        queues.bury(letter(event(number)))
    ran = command("dlq", "list", "--limit", limit, settings=queues.settings)
    assert (ran.code, len(ran.lines())) == (0, min(limit, 12))
    assert ("there are more than" in ran.err) == more
    assert queues.count(queues.dead_letters) == (12, 0, 0)


def test_list_says_that_somebody_else_has_some_in_hand(queues: QueueSet, command: Command) -> None:
    """They cannot be looked at, and are there."""
    queues.bury(letter(event(1)))
    queues.take(queues.dead_letters)
    ran = command("dlq", "list", settings=queues.settings)
    assert (ran.code, ran.out) == (0, "")
    assert "1 more are in somebody else's hands" in ran.err


# -- show


def test_show_prints_one_whole(queues: QueueSet, command: Command) -> None:
    """With the decoded body of a push that could not be read. It stays as it was."""
    for number in range(12):
        queues.bury(letter(event(number)))
    wanted = queues.bury(letter(raw_push(wrapped({**GMAIL, "historyId": "x"})), reason="no historyId"))
    ran = command("dlq", "show", wanted, settings=queues.settings)
    (told,) = ran.lines()
    assert (ran.code, told["id"], told["reason"]) == (0, wanted, "no historyId")
    assert told["push"]["data"] == {**GMAIL, "historyId": "x"}
    assert told["push"]["body"]["subscription"] == SUBSCRIPTION
    assert queues.count(queues.dead_letters) == (13, 0, 0)


def test_show_of_one_that_is_not_there_fails(queues: QueueSet, command: Command) -> None:
    """1, and nothing on stdout."""
    queues.bury(letter(event(1)))
    ran = command("dlq", "show", "no-such-id", settings=queues.settings)
    assert (ran.code, ran.out) == (1, "")
    assert "no-such-id is not among the dead letters" in ran.err


# -- redrive


def put_back(queues: QueueSet) -> list[Delivery]:
    return [Delivery.parse(body) for body in queues.bodies(queues.delivery)]


def test_redrive_moves_letters_back(queues: QueueSet, command: Command) -> None:
    """With a new nonce, so that the queue takes it although it had it a moment ago, and with a fresh start."""
    first = event(1, returns=3)
    queues.put(first)
    queues.client.purge_queue(QueueUrl=queues.delivery)
    one, other = queues.bury(letter(first)), queues.bury(letter(event(2)))
    ran = command("dlq", "redrive", one, settings=queues.settings)
    assert (ran.code, ran.lines()) == (0, [{"id": one, "redriven": True, "why": None}])
    (back,) = put_back(queues)
    assert (back.content, back.returns, back.accepted_at) == (first.content, 0, CAME_AT)
    assert back.nonce
    assert queues.count(queues.dead_letters) == (1, 0, 0)
    ran = command("dlq", "redrive", "--all", settings=queues.settings)
    assert (ran.code, ran.lines()) == (0, [{"id": other, "redriven": True, "why": None}])
    assert queues.count(queues.dead_letters) == (0, 0, 0)


def test_redrive_of_everything_goes_on_where_its_limit_was(queues: QueueSet, command: Command) -> None:
    """What was put back is gone, so the same command again does the rest."""
    for number in range(25):
        queues.bury(letter(event(number)))
    ran = command("dlq", "redrive", "--all", "--limit", 10, settings=queues.settings)
    assert (ran.code, len(ran.lines())) == (0, 10)
    assert "there are more than 10" in ran.err
    ran = command("dlq", "redrive", "--all", settings=queues.settings)
    assert (ran.code, len(ran.lines()), ran.err) == (0, 15, "")
    assert queues.count(queues.delivery)[0] == 25


def test_redrive_can_choose_by_the_reason(queues: QueueSet, command: Command) -> None:
    """One defect was mended, another was not."""
    mended = queues.bury(letter(event(1), reason="LogDefectError: WRONGTYPE Operation against a key"))
    queues.bury(letter(event(2), reason="ValueError: whatever"))
    ran = command("dlq", "redrive", "--reason", "WRONGTYPE", settings=queues.settings)
    assert [line["id"] for line in ran.lines()] == [mended]
    assert queues.count(queues.dead_letters) == (1, 0, 0)


def test_redrive_refuses_what_cannot_be_delivered(queues: QueueSet, command: Command) -> None:
    """1, a reason for each, and they stay; the others go all the same."""
    refused = {
        queues.bury(letter(raw_push(wrapped(GMAIL)[:100], size=300_000))): "only the head of the push was kept",
        queues.bury(letter(raw_push(b"nonsense"))): "this version cannot read the push either",
        queues.bury(letter("poison")): "its message cannot be read",
        queues.bury("somebody else's"): "it cannot be read",
    }
    good = queues.bury(letter(event(1)))
    ran = command("dlq", "redrive", "--all", settings=queues.settings)
    assert ran.code == 1
    told = {line["id"]: line for line in ran.lines()}
    assert told.pop(good)["redriven"] is True
    assert told.keys() == refused.keys()
    for name, why in refused.items():
        assert told[name]["redriven"] is False
        assert told[name]["why"].startswith(why)
    assert queues.count(queues.dead_letters) == (4, 0, 0)
    assert len(put_back(queues)) == 1


def test_redrive_of_one_that_is_not_there_fails(queues: QueueSet, command: Command) -> None:
    """1; those that are there are put back."""
    there = queues.bury(letter(event(1)))
    ran = command("dlq", "redrive", "gone", there, settings=queues.settings)
    assert ran.code == 1
    assert ran.lines() == [
        {"id": there, "redriven": True, "why": None},
        {"id": "gone", "redriven": False, "why": "not among the dead letters"},
    ]


def test_redrive_that_the_queue_does_not_take_changes_nothing(queues: QueueSet, command: Command) -> None:
    """1, with why; it does not try every one against a queue that is away."""
    for number in range(30):
        queues.bury(letter(event(number)))
    away = {**queues.settings, "TIDEMARK_QUEUE_URL": f"http://127.0.0.1:{free_port()}/000000000000/away.fifo"}
    ran = command("dlq", "redrive", "--all", settings=away)
    assert ran.code == 1
    assert 0 < len(ran.lines()) <= 10
    assert all(line["why"].startswith("not known to be put back: away.fifo") for line in ran.lines())
    assert ran.err.startswith("tidemark dlq: away.fifo: ")
    assert queues.count(queues.dead_letters) == (30, 0, 0)


# -- redrive and deliver


def test_what_died_of_a_defect_is_delivered_once_when_it_is_mended(
    queues: QueueSet, stored: Stored, command: Command, tmp_path: Path
) -> None:
    """A key of the wrong type; mended, redriven, delivered. A second redrive of the same letter adds nothing."""
    stored.redis("SET", stored.keys.log(TOPIC), "not a stream")
    with delivering(stored.settings, tmp_path):
        queues.put(event(1))
        eventually(lambda: queues.count(queues.dead_letters)[0] == 1, "it is dead", TIMEOUT_S)
        (found,) = command("dlq", "list", settings=stored.settings).lines()
        assert (found["death"], found["attempts"], found["mailbox"]) == ("unknown", 3, "ann@example.com")
        assert "WRONGTYPE" in found["reason"]
        (body,) = queues.bodies(queues.dead_letters)
        stored.redis("DEL", stored.keys.log(TOPIC))
        assert command("dlq", "redrive", found["id"], settings=stored.settings).code == 0
        eventually(lambda: stored.messages(ANN) == ["1"], "it is delivered", TIMEOUT_S)
        # As if the first redrive had died before it deleted the letter.
        queues.bury(body)
        assert command("dlq", "redrive", "--all", settings=stored.settings).code == 0
        eventually(lambda: queues.count(queues.delivery) == (0, 0, 0), "the queue is empty", TIMEOUT_S)
    assert stored.messages(ANN) == ["1"]
    assert queues.count(queues.dead_letters) == (0, 0, 0)


def test_a_push_that_a_later_version_reads_is_delivered(
    queues: QueueSet, stored: Stored, command: Command, tmp_path: Path
) -> None:
    """The version before this one could not read it; what was wrong with it then is no matter now."""
    queues.bury(letter(raw_push(wrapped(GMAIL, "m-77")), death=Death.POISON, reason="no historyId", attempts=1))
    with delivering(stored.settings, tmp_path):
        ran = command("dlq", "redrive", "--all", settings=stored.settings)
        assert (ran.code, [line["redriven"] for line in ran.lines()]) == (0, [True])
        eventually(lambda: stored.messages(ANN) == ["m-77"], "it is delivered", TIMEOUT_S)
    assert queues.count(queues.dead_letters) == (0, 0, 0)


async def test_what_dies_again_while_everything_is_put_back_is_not_put_back_for_ever(queues: QueueSet) -> None:
    """The defect is still there: the same redrive leaves it, and the next one may try."""
    access = queues.access

    async def redriven(redrive: Redrive) -> list[Outcome]:
        async with open_queue(queues.dead_letters, access) as sqs, sweeping(sqs, print) as sweep:
            return [out async for messages in sweep.batches() for out in await redrive.put_back(sweep, messages)]

    async with open_queue(queues.delivery, access) as delivery:
        redrive = Redrive(DeliveryQueue(delivery), ids=(), reason="")
        queues.bury(letter(event(1)))
        (outcome,) = await redriven(redrive)
        assert outcome.redriven
        (body,) = queues.bodies(queues.delivery)
        queues.bury(letter(body, reason="the same defect"))
        (outcome,) = await redriven(redrive)
        assert (outcome.redriven, outcome.why) == (False, "it was put back and has died again: the same defect")
        assert queues.count(queues.dead_letters) == (1, 0, 0)
        (outcome,) = await redriven(Redrive(DeliveryQueue(delivery), ids=(), reason=""))
        assert outcome.redriven


# -- where the queues are


def test_without_queues_it_says_what_is_missing(command: Command, tmp_path: Path) -> None:
    """1: no stack runs, and the environment names none; or only one of the two; or nothing to sign with."""
    ran = command("dlq", "list", "--data-dir", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "no local stack runs" in ran.err
    half = {"TIDEMARK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q.fifo"}
    ran = command("dlq", "list", settings=half)
    assert (ran.code, ran.err.count("TIDEMARK_DEAD_LETTER_URL")) == (1, 1)
    nobody = {
        **half,
        "TIDEMARK_DEAD_LETTER_URL": "https://sqs.eu-west-1.amazonaws.com/1/q",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    ran = command("dlq", "list", settings=nobody)
    assert ran.code == 1
    assert "no credentials for AWS" in ran.err


def test_a_queue_that_is_away_or_refuses_is_told(queues: QueueSet, command: Command) -> None:
    """1, in one line; the secret is not shown."""
    for settings, why in (
        ({"TIDEMARK_DEAD_LETTER_URL": f"http://127.0.0.1:{free_port()}/000000000000/q"}, "ConnectError"),
        ({"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, "InvalidSignatureException"),
        ({"TIDEMARK_DEAD_LETTER_URL": queues.server.queue_url("none")}, "QueueDoesNotExist"),
    ):
        ran = command("dlq", "list", settings={**queues.settings, **settings})
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
        assert why in ran.err
        assert "secret" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("show",), ("redrive",), ("redrive", "id", "--all"), ("list", "--limit", "0")],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_is_2(command: Command, arguments: tuple[str, ...]) -> None:
    """And a hint on stderr."""
    ran = command("dlq", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "error: " in ran.err.splitlines()[-1]
