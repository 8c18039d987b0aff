"""`tidemark forget`: what is held about a mailbox is gone, wherever it was, and the others' is not."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from shared.delivery import Death
from shared.tokens import mint
from tests.support.command import Command
from tests.support.deliver_process import delivering
from tests.support.gateway import eventually, free_port
from tests.support.lambda_events import KID, TOKEN_KEY, deployed
from tests.support.queue_set import event, letter, raw_push, wrapped
from tests.support.stored import Stored

ANN, BEN = "ann@example.com", "ben@example.com"
LONGER = f"jo{ANN}"
TIMEOUT_S = 30.0


def parked(address: str) -> str:
    """Write what the webhook parks in Redis where there are no queues."""
    body = wrapped({"emailAddress": address, "historyId": "x"})
    return json.dumps({"reason": "no historyId", "head": base64.b64encode(body).decode(), "pubsub": {}})


def naming(stored: Stored, address: str) -> list[str]:
    """Return where an address stands: names of keys, and bodies that can be received."""
    queues = stored.queues
    bodies = [body for url in (queues.delivery, queues.dead_letters) for body in queues.bodies(url)]
    texts = [
        *bodies,
        *(base64.b64decode(part).decode("utf-8", "replace") for body in bodies for part in _heads(body)),
    ]
    return [*stored.names(f"*{address}*"), *(text for text in texts if address in text)]


def _heads(body: str) -> list[str]:
    told = json.loads(body)
    inner = json.loads(told["message"]) if "message" in told else told
    return [inner["push"]["head"]] if "push" in inner else []


def replayed(stored: Stored, after: str, mailbox: str = ANN) -> dict[str, object]:
    """Ask as a client does that has read up to a cursor."""
    topic = f"gmail:{mailbox}"
    token = mint("someone", [topic], kid=KID, key=TOKEN_KEY, ttl_s=60, now=time.time())
    with deployed("functions.replay.handler", stored.settings) as replay:
        headers = {"authorization": f"Bearer {token}"}
        answer = replay.invoke("GET", "/replay", query=f"topic={topic}&after={after}", headers=headers)
    assert answer.status == 200
    told: dict[str, object] = answer.json()
    return told


def test_everything_of_a_mailbox_is_erased_and_nothing_of_the_others(stored: Stored, command: Command) -> None:
    """Log, queued and dead letters, what is parked, acks: each is counted."""
    queues, keys = stored.queues, stored.keys
    stored.append(*(event(f"log-{number}") for number in range(3)), event("ben-log", BEN), event("jo-log", LONGER))
    for number in range(25):
        queues.put(event(number))
    for number in range(12):
        queues.put(event(f"b{number}", BEN))
    queues.confirm(event("log-0"))
    queues.confirm(event("ben-log", BEN))
    for dead in (
        letter(event("dead")),
        letter(raw_push(wrapped({"emailAddress": ANN.upper(), "historyId": "x"})), death=Death.POISON),
        letter(raw_push(b"x" * 40, {"x-goog-pubsub-subscription-name": ANN})),
        letter(f'{{"format":"9","address":"{ANN}"}}'),
        letter(raw_push(wrapped({"emailAddress": LONGER, "historyId": "x"}))),
        letter(event("ben-dead", BEN)),
    ):
        queues.bury(dead)
    queues.bury(f"somebody wrote to {ANN}")
    for address in (ANN, BEN, LONGER, ANN):
        stored.redis("LPUSH", keys.parked, parked(address))
    for user, client in ((ANN, "tab"), (ANN, "phone"), ("u-1", "tab"), ("u-2", "tab")):
        stored.redis("SET", keys.ack(user, client), "1-0")

    ran = command("forget", ANN.title(), "--user", "u-1", settings=stored.settings)

    assert (ran.code, ran.err) == (0, "")
    assert ran.lines() == [
        {
            "mailbox": ANN,
            "queued": 25,
            "confirmations": 1,
            "dead_letters": 5,
            "parked": 2,
            "events": 3,
            "acks": 3,
            "in_flight": 0,
            "delayed": 0,
            "unfinished": 0,
        }
    ]
    assert [text for text in naming(stored, ANN) if LONGER not in text] == []
    assert stored.messages(BEN) == ["ben-log"]
    assert stored.messages(LONGER) == ["jo-log"]
    assert queues.count(queues.delivery) == (12, 0, 0)
    assert queues.count(queues.dead_letters) == (2, 0, 0)
    assert queues.count(queues.confirmation) == (1, 0, 0)
    assert stored.redis("LLEN", keys.parked) == 2
    assert stored.names("ack:*") == [keys.ack("u-2", "tab")]


def test_an_older_cursor_is_told_of_a_gap_and_new_mail_arrives(stored: Stored, command: Command) -> None:
    """Never a silent hole; who had everything is told nothing."""
    first, _, last = stored.append(*(event(number) for number in range(3)))
    assert command("forget", ANN, settings=stored.settings).code == 0
    gap = {"topic": f"gmail:{ANN}", "after": str(first), "resume": str(last)}
    assert (replayed(stored, str(first))["gaps"], replayed(stored, str(last))["gaps"]) == ([gap], [])
    (new,) = stored.append(event("new"))
    told = replayed(stored, str(first))
    assert (told["gaps"], told["cursor"], stored.messages(ANN)) == ([gap], str(new), ["new"])
    assert replayed(stored, str(last))["gaps"] == []


def test_a_copy_that_confirms_brings_nothing_back(stored: Stored, command: Command, tmp_path: Path) -> None:
    """Delayed, it cannot be looked at. The push it confirms was erased before the log ever had it."""
    queues = stored.queues
    queues.put(event("queued"))
    queues.bury(letter(event("dead")))
    for name in ("queued", "dead"):
        queues.confirm(event(name), delay_s=3)
    queues.confirm(event("ben", BEN), delay_s=3)
    ran = command("forget", ANN, settings=stored.settings)
    assert (ran.code, ran.lines()[0]["queued"], ran.lines()[0]["delayed"]) == (0, 1, 3)
    assert "3 copies that confirm" in ran.err
    with delivering(stored.settings, tmp_path):
        eventually(lambda: stored.messages(BEN) == ["ben"], "the other mailbox's copy is restored", TIMEOUT_S)
        eventually(lambda: queues.count(queues.confirmation) == (0, 0, 0), "all copies are handled", TIMEOUT_S)
    assert stored.messages(ANN) == []
    assert stored.names(f"*{ANN}*") == []


def test_pushes_that_wait_to_be_read_again_hide_nothing(stored: Stored, command: Command) -> None:
    """They were put back by hand and belong to no mailbox's order; the one that is meant comes last."""
    queues = stored.queues
    for number in range(24):
        queues.put(raw_push(wrapped({"emailAddress": BEN, "historyId": number}, f"m-{number}")))
    queues.put(raw_push(wrapped({"emailAddress": ANN, "historyId": 1})))
    ran = command("forget", ANN, settings=stored.settings)
    assert (ran.code, ran.lines()[0]["queued"]) == (0, 1)
    assert queues.count(queues.delivery) == (24, 0, 0)


def test_what_is_in_somebody_elses_hands_must_be_looked_at_later(stored: Stored, command: Command) -> None:
    """1, and what to do. What could be erased is."""
    queues = stored.queues
    queues.put(event("in flight"))
    (taken,) = queues.take(queues.delivery)
    stored.append(event("log"))
    ran = command("forget", ANN, settings=stored.settings)
    assert (ran.code, ran.lines()[0]["in_flight"], ran.lines()[0]["events"]) == (1, 1, 1)
    assert "run it again in a minute" in ran.err
    queues.client.change_message_visibility(
        QueueUrl=queues.delivery, ReceiptHandle=taken["ReceiptHandle"], VisibilityTimeout=0
    )
    ran = command("forget", ANN, settings=stored.settings)
    assert (ran.code, ran.lines()[0]["queued"]) == (0, 1)


def test_with_redis_away_nothing_is_erased(stored: Stored, command: Command) -> None:
    """1, with why: else a copy of what was erased could come back."""
    queues = stored.queues
    queues.put(event("queued"))
    queues.bury(letter(event("dead")))
    away = {**stored.settings, "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{free_port()}"}
    ran = command("forget", ANN, settings=away)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("tidemark forget: not everything is erased, run it again: ")
    assert [queues.count(url)[0] for url in (queues.delivery, queues.dead_letters)] == [1, 1]


@pytest.mark.parametrize("away", ["TIDEMARK_QUEUE_URL", "TIDEMARK_DEAD_LETTER_URL", "TIDEMARK_CONFIRM_QUEUE_URL"])
def test_with_a_queue_away_the_log_stays(stored: Stored, command: Command, away: str) -> None:
    """1, with which one: what waits in it would bring back what was erased."""
    stored.append(event("log"))
    name = "away.fifo" if away == "TIDEMARK_QUEUE_URL" else "away"
    settings = {**stored.settings, away: f"http://127.0.0.1:{free_port()}/000000000000/{name}"}
    ran = command("forget", ANN, settings=settings)
    assert (ran.code, ran.out) == (1, "")
    assert f"run it again: {name}: " in ran.err
    assert stored.messages(ANN) == ["log"]
    # Once it is back the same command does it all.
    assert command("forget", ANN, settings=stored.settings).lines()[0]["events"] == 1


def test_that_there_are_no_queues_must_be_said(stored: Stored, command: Command) -> None:
    """Else whoever forgets to name them would leave what they hold, and believe it erased."""
    stored.append(event("log"))
    settings = {name: value for name, value in stored.settings.items() if not name.endswith("_URL") or "UPS" in name}
    ran = command("forget", ANN, settings=settings)
    assert (ran.code, ran.out) == (1, "")
    assert "TIDEMARK_QUEUE_URL" in ran.err
    ran = command("forget", ANN, "--no-queues", settings=settings)
    assert (ran.code, ran.lines()[0]["events"]) == (0, 1)


def test_queues_that_are_known_are_not_left_out(stored: Stored, command: Command) -> None:
    """What they hold would come back."""
    ran = command("forget", ANN, "--no-queues", settings=stored.settings)
    assert (ran.code, ran.out) == (1, "")
    assert "leave --no-queues out" in ran.err


def test_a_mailbox_that_nobody_knows_is_forgotten_easily(stored: Stored, command: Command) -> None:
    """0, and nothing is left behind by asking."""
    ran = command("forget", "nobody@example.com", settings=stored.settings)
    assert (ran.code, sum(value for value in ran.lines()[0].values() if isinstance(value, int))) == (0, 0)
    assert stored.names("*nobody*") == []


@pytest.mark.parametrize("arguments", [(), ("no address",), ("a@b.c", "--user", "")])
def test_wrong_usage_is_2(command: Command, arguments: tuple[str, ...]) -> None:
    """And a hint on stderr."""
    ran = command("forget", *arguments)
    assert (ran.code, ran.out) == (2, "")


def test_without_a_stack_or_a_deployment_nothing_is_done(command: Command, tmp_path: Path) -> None:
    """1: whoever forgets must know."""
    ran = command("forget", ANN, "--data-dir", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "nothing is done" in ran.err
