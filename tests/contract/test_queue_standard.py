"""Standard queues: one suite over our queue server and moto, by plain boto3."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from tests.support.gateway import eventually
from tests.support.sqs import Sqs, refused


def test_a_message_is_given_as_it_was_sent_and_is_gone_when_deleted(sqs: Sqs) -> None:
    queue = sqs.queue()
    body = "line\r\n\ttab \u00e9 \U0001f30a"
    sent = queue.send(body)
    (message,) = queue.receive()
    assert message["Body"] == body
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()  # noqa: S324
    assert "Attributes" not in message
    assert "MessageAttributes" not in message
    assert "SequenceNumber" not in sent
    assert queue.counts() == (0, 1, 0)
    queue.delete(message)
    assert queue.counts() == (0, 0, 0)
    queue.delete(message)


def test_a_receive_gives_no_more_than_it_asks_for_and_one_by_default(sqs: Sqs) -> None:
    queue = sqs.queue()
    for number in range(5):
        queue.send(str(number))
    assert len(queue.client.receive_message(QueueUrl=queue.url)["Messages"]) == 1
    assert len(queue.receive(3)) == 3
    assert len(queue.receive(10)) == 1
    assert queue.receive(10) == []


def test_an_empty_queue_gives_an_answer_without_messages(sqs: Sqs) -> None:
    queue = sqs.queue()
    assert "Messages" not in queue.client.receive_message(QueueUrl=queue.url)


def test_what_is_not_deleted_comes_again_after_its_time_out(sqs: Sqs) -> None:
    queue = sqs.queue(VisibilityTimeout="1")
    queue.send("again")
    (first,) = queue.receive(AttributeNames=["All"])
    assert queue.receive() == []
    (second,) = queue.receive(AttributeNames=["All"], WaitTimeSeconds=3)
    assert second["MessageId"] == first["MessageId"]
    assert second["ReceiptHandle"] != first["ReceiptHandle"]
    assert first["Attributes"]["ApproximateReceiveCount"] == "1"
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    for name in ("SentTimestamp", "ApproximateFirstReceiveTimestamp"):
        assert first["Attributes"][name] == second["Attributes"][name]


def test_a_receive_may_set_its_own_time_out(sqs: Sqs) -> None:
    queue = sqs.queue(VisibilityTimeout="60")
    queue.send("soon")
    assert len(queue.receive(VisibilityTimeout=1)) == 1
    assert queue.receive() == []
    assert queue.bodies(WaitTimeSeconds=3) == ["soon"]


def test_visibility_is_changed_to_now_and_to_later(sqs: Sqs) -> None:
    queue = sqs.queue(VisibilityTimeout="1")
    queue.send("kept")
    (message,) = queue.receive()
    queue.hide(message, 60)
    time.sleep(1.2)  # the first time-out would have ended
    assert queue.receive() == []
    assert queue.counts() == (0, 1, 0)
    queue.hide(message, 0)
    eventually(lambda: queue.counts() == (1, 0, 0), "it can be received again")
    assert queue.bodies() == ["kept"]


def test_visibility_is_changed_in_a_batch(sqs: Sqs) -> None:
    queue = sqs.queue(VisibilityTimeout="60")
    for body in ("a", "b"):
        queue.send(body)
    first, second = queue.receive()
    answer = queue.client.change_message_visibility_batch(
        QueueUrl=queue.url,
        Entries=[
            {"Id": "1", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 0},
            {"Id": "2", "ReceiptHandle": second["ReceiptHandle"], "VisibilityTimeout": 43_201},
            {"Id": "3", "ReceiptHandle": "no handle", "VisibilityTimeout": 1},
        ],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["1"]
    failed = {entry["Id"]: (entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]}
    assert failed == {"2": ("InvalidParameterValue", True), "3": ("ReceiptHandleIsInvalid", True)}
    assert queue.bodies(WaitTimeSeconds=1) == [first["Body"]]


def test_a_delayed_message_comes_when_its_delay_is_over(sqs: Sqs) -> None:
    queue = sqs.queue()
    queue.send("later", DelaySeconds=1)
    queue.send("now")
    assert queue.bodies() == ["now"]
    assert queue.counts() == (0, 1, 1)
    assert queue.bodies(WaitTimeSeconds=4) == ["later"]


def test_a_queue_delays_what_says_nothing_of_its_own(sqs: Sqs) -> None:
    queue = sqs.queue(DelaySeconds="900")
    queue.send("as the queue says")
    assert queue.counts() == (0, 0, 1)


def test_a_delay_has_a_bound(sqs: Sqs) -> None:
    queue = sqs.queue()
    with refused("InvalidParameterValue", "DelaySeconds"):
        queue.send("x", DelaySeconds=901)
    queue.send("x", DelaySeconds=900)
    assert queue.counts() == (0, 0, 1)


def test_a_batch_is_sent_received_and_deleted(sqs: Sqs) -> None:
    queue = sqs.queue()
    answer = queue.send_batch(*({"Id": f"e-{number}", "MessageBody": f"b{number}"} for number in range(10)))
    assert [entry["Id"] for entry in answer["Successful"]] == [f"e-{number}" for number in range(10)]
    assert len({entry["MessageId"] for entry in answer["Successful"]}) == 10
    assert not answer.get("Failed")
    messages = queue.receive()
    assert sorted(message["Body"] for message in messages) == [f"b{number}" for number in range(10)]
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages[:9])
    ]
    entries.append({"Id": "wrong", "ReceiptHandle": "no handle"})
    answer = queue.client.delete_message_batch(QueueUrl=queue.url, Entries=entries)
    assert len(answer["Successful"]) == 9
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("wrong", "ReceiptHandleIsInvalid")]
    assert queue.counts() == (0, 1, 0)


def test_message_attributes_come_back_with_their_digest(sqs: Sqs) -> None:
    queue = sqs.queue()
    given = {
        "text": {"DataType": "String", "StringValue": "\u00e9t\u00e9"},
        "number": {"DataType": "Number", "StringValue": "12.5"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff\x10"},
        "custom.kind": {"DataType": "String.uuid", "StringValue": "x"},
    }
    sent = queue.send("with attributes", MessageAttributes=given)
    (message,) = queue.receive(MessageAttributeNames=["All"], VisibilityTimeout=0)
    assert message["MessageAttributes"] == given
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert "MessageAttributes" not in queue.receive(VisibilityTimeout=0, WaitTimeSeconds=1)[0]
    (some,) = queue.receive(MessageAttributeNames=["text", "absent"], VisibilityTimeout=0, WaitTimeSeconds=1)
    assert some["MessageAttributes"] == {"text": given["text"]}
    assert some["MD5OfMessageAttributes"] != message["MD5OfMessageAttributes"]
    (prefixed,) = queue.receive(MessageAttributeNames=["custom.*"], WaitTimeSeconds=1)
    assert prefixed["MessageAttributes"] == {"custom.kind": given["custom.kind"]}


@pytest.mark.parametrize(
    ("attributes", "digest"),
    [
        (
            {
                "Hello": {"DataType": "String", "StringValue": "There"},
                "General": {"DataType": "String", "StringValue": "Kenobi"},
                "Help.Me": {"DataType": "String", "StringValue": "Me"},
            },
            "4c360f3fdafd970e05fae2f149d997f5",
        ),
        (
            {
                "attr1": {
                    "DataType": "Binary",
                    "BinaryValue": b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01",
                }
            },
            "8cbe4db156db8a94db8b801b7addb984",
        ),
    ],
)
def test_the_digest_of_attributes_is_the_one_that_aws_gave(sqs: Sqs, attributes: Any, digest: str) -> None:
    assert sqs.queue().send("x", MessageAttributes=attributes)["MD5OfMessageAttributes"] == digest


def test_system_attributes_are_those_that_are_asked_for(sqs: Sqs) -> None:
    queue = sqs.queue()
    before_ms = int(time.time() * 1_000) - 1
    queue.send("x")
    (message,) = queue.receive(AttributeNames=["All"], VisibilityTimeout=0)
    attributes = message["Attributes"]
    assert attributes.keys() >= {"SenderId", "SentTimestamp", "ApproximateReceiveCount"}
    assert before_ms <= int(attributes["SentTimestamp"]) <= int(attributes["ApproximateFirstReceiveTimestamp"])
    (message,) = queue.receive(MessageSystemAttributeNames=["SentTimestamp"], WaitTimeSeconds=1)
    assert message["Attributes"] == {"SentTimestamp": attributes["SentTimestamp"]}


def test_a_message_received_too_often_goes_to_the_dead_letter_queue(sqs: Sqs) -> None:
    dead = sqs.queue()
    policy = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2}
    queue = sqs.queue(RedrivePolicy=json.dumps(policy))
    sent = queue.send("poison")
    for _ in range(2):
        assert queue.bodies(VisibilityTimeout=0, WaitTimeSeconds=1) == ["poison"]
    assert queue.bodies(VisibilityTimeout=0) == []
    assert queue.counts() == (0, 0, 0)
    (message,) = dead.receive(AttributeNames=["All"])
    assert (message["Body"], message["MessageId"]) == ("poison", sent["MessageId"])
    assert message["Attributes"]["ApproximateReceiveCount"] == "3"
    assert json.loads(queue.attributes()["RedrivePolicy"]) == policy


def test_a_queue_is_found_listed_and_deleted(sqs: Sqs) -> None:
    queue = sqs.queue(VisibilityTimeout="7")
    name = queue.url.rpartition("/")[2]
    assert queue.client.get_queue_url(QueueName=name)["QueueUrl"] == queue.url
    assert queue.client.list_queues(QueueNamePrefix=name)["QueueUrls"] == [queue.url]
    assert "QueueUrls" not in queue.client.list_queues(QueueNamePrefix=f"{name}-and-no-more")
    same = queue.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})
    assert same["QueueUrl"] == queue.url
    with refused("QueueAlreadyExists"):
        queue.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "8"})
    queue.client.delete_queue(QueueUrl=queue.url)
    gone = "AWS.SimpleQueueService.NonExistentQueue"
    with refused(gone):
        queue.client.get_queue_url(QueueName=name)
    with refused(gone):
        queue.send("nobody")
    with refused(gone):
        queue.receive()


def test_attributes_of_a_queue_are_set_and_given(sqs: Sqs) -> None:
    queue = sqs.queue(MessageRetentionPeriod="1209600", ReceiveMessageWaitTimeSeconds="0")
    queue.change(VisibilityTimeout="90", DelaySeconds="3", MaximumMessageSize="2048")
    attributes = queue.attributes()
    expected = {
        "VisibilityTimeout": "90",
        "DelaySeconds": "3",
        "MaximumMessageSize": "2048",
        "MessageRetentionPeriod": "1209600",
        "ReceiveMessageWaitTimeSeconds": "0",
        "ApproximateNumberOfMessages": "0",
    }
    assert expected.items() <= attributes.items()
    assert attributes["QueueArn"].startswith("arn:aws:sqs:us-east-1:")
    assert abs(float(attributes["CreatedTimestamp"]) - time.time()) < 30
    assert queue.attributes("DelaySeconds") == {"DelaySeconds": "3"}


def test_a_purge_empties_a_queue(sqs: Sqs) -> None:
    queue = sqs.queue()
    for body in ("a", "b", "c"):
        queue.send(body)
    queue.receive(1)
    queue.client.purge_queue(QueueUrl=queue.url)
    assert queue.counts() == (0, 0, 0)
    queue.send("afterwards")
    assert queue.bodies() == ["afterwards"]


def test_a_batch_has_ten_entries_at_most_and_distinct_ids_of_a_form(sqs: Sqs) -> None:
    queue = sqs.queue()
    old = "AWS.SimpleQueueService."
    with refused(f"{old}TooManyEntriesInBatchRequest", "You have sent 11"):
        queue.send_batch(*({"Id": str(number), "MessageBody": "x"} for number in range(11)))
    with refused(f"{old}BatchEntryIdsNotDistinct", "same"):
        queue.send_batch(*({"Id": "same", "MessageBody": "x"} for _ in range(2)))
    for entry_id in ("with space", "x" * 81, "a.b"):
        with refused(f"{old}InvalidBatchEntryId"):
            queue.send_batch({"Id": entry_id, "MessageBody": "x"})
    with refused(f"{old}EmptyBatchRequest"):
        queue.send_batch()
    assert queue.counts() == (0, 0, 0)


def test_bounds_of_a_receive(sqs: Sqs) -> None:
    queue = sqs.queue()
    for most in (0, 11):
        with refused("InvalidParameterValue", "MaxNumberOfMessages"):
            queue.receive(most)
    with refused("InvalidParameterValue", "WaitTimeSeconds"):
        queue.receive(WaitTimeSeconds=21)


def test_a_handle_that_was_never_given_is_refused(sqs: Sqs) -> None:
    queue = sqs.queue()
    with refused("ReceiptHandleIsInvalid"):
        queue.delete({"ReceiptHandle": "never given"})
    with refused("ReceiptHandleIsInvalid"):
        queue.hide({"ReceiptHandle": "never given"}, 1)


def test_the_largest_message_passes_and_one_byte_more_does_not(sqs: Sqs) -> None:
    queue = sqs.queue()
    largest = 1_048_576
    assert queue.attributes("MaximumMessageSize") == {"MaximumMessageSize": str(largest)}
    queue.send("x" * largest)
    with refused("InvalidParameterValue", "shorter than"):
        queue.send("x" * (largest + 1))
    (message,) = queue.receive()
    assert len(message["Body"]) == largest
