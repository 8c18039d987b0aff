"""`tidemark doctor`: each trouble of the log and each fault of a queue has its own advice."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.command import Command
from tests.support.doctor import findings, one
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.gateway import free_port
from tests.support.lambda_events import environment
from tests.support.log_rig import own_stage
from tests.support.queue_set import QueueSet, event, letter
from tests.support.stored import Stored

PAGE = Answer(200, b"<html>", ((b"content-type", b"text/html"),))


# -- the log


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (
            Answer.error("ERR max requests limit exceeded. Limit: 10000, Usage: 10000"),
            "a limit of the plan is used up",
        ),
        (Answer.error("OOM command not allowed when used memory > 'maxmemory'."), "a limit of the plan is used up"),
        (Answer.error("LOADING Redis is loading the dataset in memory"), "the server has just started"),
        (Answer.error("MASTERDOWN Link with MASTER is down"), "this is a replica, or it cannot write"),
        (Answer.error("something that nobody has ever seen"), "these words are not known here"),
        (PAGE, "what answers is not the database"),
    ],
    ids=["quota", "memory", "loading", "read-only", "unknown", "unreadable"],
)
async def test_each_trouble_of_the_log_has_its_own_advice(
    faulty: FaultyGateway, command: Command, answer: Answer, advice: str
) -> None:
    """Whatever is asked of it is answered so. 1, and no further checks of the log."""
    faulty.refuse = lambda _name: answer
    ran = await asyncio.to_thread(command, "doctor", settings=environment(faulty, own_stage()))
    level, _, fix = one(ran, "log")
    assert (ran.code, level) == (1, "FAIL")
    assert fix.startswith(advice)
    assert not [what for what in findings(ran) if what.startswith(("scripts", "writing"))]


async def test_a_token_that_was_rotated_is_told(faulty: FaultyGateway, command: Command) -> None:
    """And neither the old one nor the new is shown."""
    settings = {**environment(faulty, own_stage()), "UPSTASH_REDIS_REST_TOKEN": "the-one-before"}
    ran = await asyncio.to_thread(command, "doctor", settings=settings)
    level, what, fix = one(ran, "log")
    assert (ran.code, level, "WRONGPASS" in what) == (1, "FAIL", True)
    assert "was it rotated?" in fix
    assert "the-one-before" not in ran.out
    assert faulty.token not in ran.out


def test_a_database_that_does_not_answer_is_told(command: Command) -> None:
    """Another advice than for one that refuses."""
    settings = {
        "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{free_port()}",
        "UPSTASH_REDIS_REST_TOKEN": "t",
        "TIDEMARK_TOKEN_KEYS": f"a:{'k' * 32}",
        "TIDEMARK_PUSH_AUTH": "off",
    }
    _, _, fix = one(command("doctor", settings=settings), "log")
    assert fix.startswith("check UPSTASH_REDIS_REST_URL, the network")


async def test_a_replica_answers_everything_but_writes(faulty: FaultyGateway, command: Command) -> None:
    """So something is written. The token of a read-only user fails there, too, and has another remedy."""
    for text, advice in (
        ("READONLY You can't write against a read only replica.", "this is a replica, or it cannot write"),
        ("NOPERM this user has no permissions to run the 'set' command", "the database does not take UPSTASH"),
    ):
        refusal = Answer.error(text)
        faulty.refuse = lambda name, refusal=refusal: refusal if name == "SET" else None  # type: ignore[misc]
        ran = await asyncio.to_thread(command, "doctor", settings=environment(faulty, own_stage()))
        level, _, fix = one(ran, "writing")
        assert (ran.code, level) == (1, "FAIL")
        assert fix.startswith(advice)


async def test_what_only_a_defect_explains_is_told_as_such(faulty: FaultyGateway, command: Command) -> None:
    """It does not go away by waiting."""
    refusal = Answer.error("WRONGTYPE Operation against a key holding the wrong kind of value")
    faulty.refuse = lambda name: refusal if name == "read" else None
    ran = await asyncio.to_thread(command, "doctor", settings=environment(faulty, own_stage()))
    _, _, fix = one(ran, "scripts")
    assert "keys of ours were overwritten" in fix


# -- the queues


def test_good_queues_are_found_well(stored: Stored, command: Command) -> None:
    """And what waits in them is told."""
    queues = stored.queues
    queues.put(event(1))
    queues.put(event(2, "ben@example.com"))
    queues.client.receive_message(QueueUrl=queues.delivery)
    queues.confirm(event(1), delay_s=60)
    found = findings(command("doctor", settings=stored.settings))
    assert [what for what in found if what.startswith(("delivery", "dead", "confirmation"))] == [
        "delivery queue: 1 wait, 1 are in flight",
        "dead letters: none",
        "confirmation queue: 1 are delayed, 0 wait",
    ]
    # Only that pushes are taken without a token.
    assert {level for level, _ in found.values()} == {"ok", "warn"}
    assert [what for what, (level, _) in found.items() if level == "warn"] == [
        "pushes: taken from anybody, without a token"
    ]


def test_dead_letters_are_a_warning(stored: Stored, command: Command) -> None:
    """0: everything works; but somebody should look."""
    for number in range(3):
        stored.queues.bury(letter(event(number)))
    ran = command("doctor", settings=stored.settings)
    level, what, fix = one(ran, "dead letters")
    assert (ran.code, level, what) == (0, "warn", "dead letters: 3")
    assert "tidemark dlq list" in fix


FAULTS = {
    "delivery: SQS redrives": (
        "delivery",
        {"RedrivePolicy": "<dead fifo>"},
        "FAIL",
        "SQS moves messages away itself",
        "take its RedrivePolicy away",
    ),
    "delivery: drops early": (
        "delivery",
        {"MessageRetentionPeriod": "345600"},
        "FAIL",
        "drops what is older than 4 days",
        "set MessageRetentionPeriod=1209600",
    ),
    "delivery: shows early": (
        "delivery",
        {"VisibilityTimeout": "30"},
        "warn",
        "a message shows again after 30 s",
        "set VisibilityTimeout to 60 or more",
    ),
    "delivery: slow": (
        "delivery",
        {"FifoThroughputLimit": "perQueue", "DeduplicationScope": "queue"},
        "warn",
        "takes 300 calls a second",
        "set DeduplicationScope=messageGroup and FifoThroughputLimit=perMessageGroupId",
    ),
    "dead letters: drop early": (
        "dead_letters",
        {"MessageRetentionPeriod": "86400"},
        "FAIL",
        "drops what is older than 1 days",
        "set MessageRetentionPeriod=1209600",
    ),
    "confirmation: SQS redrives": (
        "confirmation",
        {"RedrivePolicy": "<dead>"},
        "FAIL",
        "SQS moves messages away itself",
        "take its RedrivePolicy away",
    ),
}


@pytest.mark.parametrize(("queue", "attributes", "level", "what", "fix"), FAULTS.values(), ids=FAULTS)
def test_each_fault_of_a_queue_is_told_with_what_to_set(
    stored: Stored, command: Command, queue: str, attributes: dict[str, str], level: str, what: str, fix: str
) -> None:
    """1 where something can be lost, a warning where something is slow."""
    queues = stored.queues
    targets = {"<dead>": queues.dead_letters, "<dead fifo>": QueueSet(queues.server).delivery}
    for name, value in attributes.items():
        if value in targets:
            told = queues.client.get_queue_attributes(QueueUrl=targets[value], AttributeNames=["QueueArn"])
            policy = {"deadLetterTargetArn": told["Attributes"]["QueueArn"], "maxReceiveCount": 3}
            attributes = {**attributes, name: json.dumps(policy)}
    queues.set(getattr(queues, queue), **attributes)
    ran = command("doctor", settings=stored.settings)
    name = {"delivery": "delivery queue", "dead_letters": "dead letters", "confirmation": "confirmation queue"}[queue]
    told_level, told_what, told_fix = one(ran, name)
    assert (told_level, ran.code) == (level, 1 if level == "FAIL" else 0)
    assert told_what.startswith(f"{name}: {what}")
    assert told_fix.startswith(fix)


def test_a_queue_that_cannot_be_had_is_told_with_why(stored: Stored, command: Command) -> None:
    """Not there, not ours, not reachable: each with another advice; the other queues are looked at all the same."""
    queues = stored.queues
    for settings, advice in (
        (
            {"TIDEMARK_DEAD_LETTER_URL": queues.server.queue_url("none")},
            "there is no such queue: create it, or set TIDE",
        ),
        ({"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, "AWS does not take the credentials"),
        (
            {"TIDEMARK_DEAD_LETTER_URL": f"http://127.0.0.1:{free_port()}/000000000000/q"},
            "check TIDEMARK_DEAD_LETTER_URL, AWS_REGION and the network",
        ),
    ):
        ran = command("doctor", settings={**stored.settings, **settings})
        level, _, fix = one(ran, "dead letters")
        assert (ran.code, level) == (1, "FAIL")
        assert fix.startswith(advice)
        assert any(what.startswith("delivery queue: ") for what in findings(ran))
        assert "secret" not in ran.out


def test_queues_of_the_wrong_kind_are_told(stored: Stored, command: Command) -> None:
    """By their names, which the settings look at: those of FIFO queues end in .fifo, and no others do."""
    settings = {**stored.settings, "TIDEMARK_DEAD_LETTER_URL": stored.queues.delivery}
    ran = command("doctor", settings=settings)
    assert ran.code == 1
    assert "TIDEMARK_DEAD_LETTER_URL must be the URL of an SQS standard queue" in ran.out


def test_no_credentials_for_the_queues_are_told(stored: Stored, command: Command, tmp_path: object) -> None:
    """1; the log is looked at all the same."""
    settings = {name: value for name, value in stored.settings.items() if not name.startswith("AWS_")}
    settings |= {"AWS_CONFIG_FILE": f"{tmp_path}/none", "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/none"}
    ran = command("doctor", settings=settings)
    found = findings(ran)
    assert ran.code == 1
    assert any(what.startswith("queues: no credentials for AWS") for what in found)
    assert any(what.startswith("log: answers") for what in found)
