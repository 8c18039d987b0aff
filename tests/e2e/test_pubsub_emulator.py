"""Google's own Pub/Sub emulator pushes to `tidemark dev`."""

from __future__ import annotations

from pathlib import Path

from tests.support.dev_process import DevProcess
from tests.support.pubsub_emulator import SUBSCRIPTION, PubsubEmulator
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.waiting import until

MAILBOXES = ["ann@example.com", "ben@example.com"]
MESSAGES = 200
BATCH = 50


async def test_every_message_that_googles_emulator_pushes_reaches_the_client_once(tmp_path: Path) -> None:
    """200 Gmail messages through a push subscription: a client of the mailboxes has each of them once."""
    contents = [{"emailAddress": MAILBOXES[n % len(MAILBOXES)], "historyId": 9_000_000 + n} for n in range(MESSAGES)]
    # The emulator signs nothing.
    with PubsubEmulator.running(tmp_path) as pubsub, DevProcess.running(tmp_path / "data", push_auth="off") as dev:
        pubsub.subscribe(f"{dev.url}/push")
        key = next(iter(dev.data_dir.keys().token_keys.items()))
        client = Recorder(dev.port, [f"gmail:{mailbox}" for mailbox in MAILBOXES], name="client", key=key)
        async with following(client):
            ids = [
                message_id
                for start in range(0, MESSAGES, BATCH)
                for message_id in pubsub.publish(contents[start : start + BATCH])
            ]
            expected = {(f"//pubsub.googleapis.com/{SUBSCRIPTION}", message_id): None for message_id in ids}
            assert len(expected) == MESSAGES
            await until(lambda: not missing(client, expected), "every message arrives", timeout_s=30)
    assert faults(client, expected) == []
    assert client.byes == []
