"""AWS's limits and refusals that moto does not have, or has otherwise: for our queue server alone.

The texts are those that were recorded against AWS, where it is known what AWS says.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sqs import Sqs, refused

MIB = 1_048_576
OLD = "AWS.SimpleQueueService."


def entries(*bodies: str) -> list[dict[str, Any]]:
    return [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]


# -- sizes


def test_attributes_count_towards_the_size_of_a_message(ours: Sqs) -> None:
    queue = ours.queue()
    attributes = {
        "ab": {"DataType": "String", "StringValue": "xyz"},
        "c": {"DataType": "Binary", "BinaryValue": b"1"},
    }
    overhead = len("abStringxyz") + len("cBinary1")
    queue.send("x" * (MIB - overhead), MessageAttributes=attributes)
    with refused("InvalidParameterValue", "Message must be shorter than 1048576 bytes."):
        queue.send("x" * (MIB - overhead + 1), MessageAttributes=attributes)
    assert queue.counts() == (1, 0, 0)


def test_the_size_counts_bytes_and_not_characters(ours: Sqs) -> None:
    queue = ours.queue(MaximumMessageSize="1024")
    queue.send("\u00e9" * 512)
    with refused("InvalidParameterValue", "Message must be shorter than 1024 bytes."):
        queue.send("\u00e9" * 513)
    assert queue.counts() == (1, 0, 0)


def test_a_batch_has_a_mebibyte_at_most_whatever_the_queue_allows_for_one(ours: Sqs) -> None:
    queue = ours.queue()
    answer = queue.send_batch(*entries("x" * (MIB // 2), "y" * (MIB // 2)))
    assert len(answer["Successful"]) == 2
    with refused(f"{OLD}BatchRequestTooLong", "cannot be longer than 1048576 bytes. You have sent 1048577 bytes."):
        queue.send_batch(*entries("x" * (MIB // 2), "y" * (MIB // 2 + 1)))
    assert queue.counts() == (2, 0, 0)


def test_in_a_batch_each_message_is_taken_or_refused_on_its_own(ours: Sqs) -> None:
    queue = ours.queue(MaximumMessageSize="1024")
    given = entries("ok", "x" * 1_025, "bad \x08", "late", "named")
    given[3]["DelaySeconds"] = 901
    given[4]["MessageAttributes"] = {"AWS.x": {"DataType": "String", "StringValue": "x"}}
    answer = queue.send_batch(*given)
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    failed = {entry["Id"]: (entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]}
    invalid = ("InvalidParameterValue", True)
    assert failed == {"1": invalid, "2": ("InvalidMessageContents", True), "3": invalid, "4": invalid}
    assert queue.bodies() == ["ok"]


# -- contents


@pytest.mark.parametrize("code", [0x0, 0x8, 0xB, 0x1F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])
def test_a_character_that_xml_does_not_have_is_refused(ours: Sqs, code: int) -> None:
    queue = ours.queue()
    character = chr(code)
    with refused("InvalidMessageContents", f"#x{code:x}"):
        queue.send(f"a{character}b")
    with refused("InvalidParameterValue"):
        queue.send("x", MessageAttributes={"a": {"DataType": "String", "StringValue": character}})
    assert queue.counts() == (0, 0, 0)


@pytest.mark.parametrize(
    "character", ["\t", "\n", "\r", " ", "\x7f", "\ud7ff", "\ue000", "\ufffd", "\U00010000", "\U0010ffff"]
)
def test_every_character_that_xml_has_is_taken(ours: Sqs, character: str) -> None:
    queue = ours.queue()
    queue.send(f"a{character}b")
    assert queue.bodies() == [f"a{character}b"]


def test_a_message_has_a_body(ours: Sqs) -> None:
    queue = ours.queue()
    with refused("MissingParameter", "MessageBody"):
        queue.send("")
    with refused("MissingParameter", "MessageBody"):
        queue.send_batch({"Id": "1"})
    assert queue.counts() == (0, 0, 0)


@pytest.mark.parametrize(
    "attributes",
    [
        {f"a{number}": {"DataType": "String", "StringValue": "x"} for number in range(11)},
        {"": {"DataType": "String", "StringValue": "x"}},
        {"a b": {"DataType": "String", "StringValue": "x"}},
        {"x" * 257: {"DataType": "String", "StringValue": "x"}},
        {".a": {"DataType": "String", "StringValue": "x"}},
        {"a.": {"DataType": "String", "StringValue": "x"}},
        {"a..b": {"DataType": "String", "StringValue": "x"}},
        {"Amazon.a": {"DataType": "String", "StringValue": "x"}},
        {"a": {"DataType": "String", "StringValue": ""}},
        {"a": {"DataType": "String"}},
        {"a": {"DataType": "Text", "StringValue": "x"}},
        {"a": {"StringValue": "x"}},
        {"a": {"DataType": "Number", "StringValue": "one"}},
        {"a": {"DataType": "Binary", "StringValue": "x"}},
        {"a": {"DataType": "String", "StringValue": "x", "BinaryValue": b"x"}},
    ],
)
def test_message_attributes_have_rules(ours: Sqs, attributes: dict[str, Any]) -> None:
    queue = ours.queue()
    with refused("InvalidParameterValue"):
        queue.send("x", MessageAttributes=attributes)
    assert queue.counts() == (0, 0, 0)


# -- ids


@pytest.mark.parametrize("name", ["MessageGroupId", "MessageDeduplicationId"])
def test_ids_have_up_to_128_letters_digits_and_marks(ours: Sqs, name: str) -> None:
    queue = ours.fifo()
    for value in ("x" * 128, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"):
        queue.send("x", **{name: value})
    for value in ("x" * 129, "with space", "\u00e9", "line\n", "x\x00"):
        with refused("InvalidParameterValue", f"{name} can only include alphanumeric and punctuation characters"):
            queue.send("x", **{name: value})
        given = {"Id": "1", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d", name: value}
        (failed,) = queue.send_batch(given)["Failed"]
        assert failed["Code"] == "InvalidParameterValue"


def test_a_batch_is_refused_as_a_whole_for_an_id_that_one_message_lacks(ours: Sqs) -> None:
    queue = ours.fifo()
    sound = {"Id": "1", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    for absent, text in (("MessageGroupId", "MessageGroupId"), ("MessageDeduplicationId", "ContentBased")):
        lacking = {key: value for key, value in {**sound, "Id": "2"}.items() if key != absent}
        with refused("InvalidParameterValue", text):
            queue.send_batch(sound, lacking)
    assert queue.counts() == (0, 0, 0)


def test_a_standard_queue_takes_a_group_and_no_deduplication(ours: Sqs) -> None:
    queue = ours.queue()
    queue.send("x", "group")
    (message,) = queue.receive(AttributeNames=["All"])
    assert message["Attributes"]["MessageGroupId"] == "group"
    with refused("InvalidParameterValue", "not valid for this queue type"):
        queue.send("x", MessageDeduplicationId="d")


# -- numbers


@pytest.mark.parametrize("visibility_s", [-1, 43_201])
def test_visibility_has_bounds(ours: Sqs, visibility_s: int) -> None:
    queue = ours.queue()
    queue.send("x")
    with refused("InvalidParameterValue", "VisibilityTimeout"):
        queue.receive(VisibilityTimeout=visibility_s)
    (message,) = queue.receive()
    with refused("InvalidParameterValue", "VisibilityTimeout"):
        queue.hide(message, visibility_s)


def test_waits_and_delays_are_not_negative(ours: Sqs) -> None:
    queue = ours.queue()
    with refused("InvalidParameterValue", "WaitTimeSeconds"):
        queue.receive(WaitTimeSeconds=-1)
    with refused("InvalidParameterValue", "DelaySeconds"):
        queue.send("x", DelaySeconds=-1)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("VisibilityTimeout", 0, 43_200),
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1_024, MIB),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
    ],
)
def test_attributes_of_a_queue_have_bounds(ours: Sqs, name: str, lowest: int, highest: int) -> None:
    queue = ours.queue(**{name: str(highest)})
    queue.change(**{name: str(lowest)})
    for value in (lowest - 1, highest + 1, "x", "", "1.5"):
        with refused("InvalidAttributeValue", name):
            queue.change(**{name: str(value)})
    assert queue.attributes(name) == {name: str(lowest)}


# -- queues


def test_a_queue_has_a_name_of_a_form(ours: Sqs) -> None:
    create = ours.client.create_queue
    for name in ("with space", "x" * 81, "a.b", "x.fifo", "\u00e9"):
        with refused("InvalidParameterValue", "Can only include alphanumeric characters, hyphens, or underscores."):
            create(QueueName=name)
    for name in ("no-suffix", f"{'x' * 76}.fifo", ".fifo"):
        with refused("InvalidParameterValue", "must end with .fifo suffix"):
            create(QueueName=name, Attributes={"FifoQueue": "true"})
    with refused("MissingParameter", "QueueName"):
        create(QueueName="")


def test_what_only_fifo_queues_have_is_refused_elsewhere(ours: Sqs) -> None:
    queue = ours.queue()
    for name, value, text in (
        ("FifoQueue", "true", "Unknown Attribute FifoQueue."),
        ("ContentBasedDeduplication", "true", "Unknown Attribute ContentBasedDeduplication."),
        ("DeduplicationScope", "queue", "You can specify the DeduplicationScope only when FifoQueue is set to true."),
        ("FifoThroughputLimit", "perQueue", "You can specify the FifoThroughputLimit only when FifoQueue is set"),
        ("Nonsense", "x", "Unknown Attribute Nonsense."),
        ("QueueArn", "x", "Unknown Attribute QueueArn."),
    ):
        with refused("InvalidAttributeName", text):
            queue.change(**{name: value})


def test_high_throughput_needs_both_of_its_attributes(ours: Sqs) -> None:
    queue = ours.fifo()
    assert queue.attributes("DeduplicationScope", "FifoThroughputLimit", "FifoQueue") == {
        "DeduplicationScope": "queue",
        "FifoThroughputLimit": "perQueue",
        "FifoQueue": "true",
    }
    with refused("InvalidAttributeValue", "FifoThroughputLimit"):
        queue.change(FifoThroughputLimit="perMessageGroupId")
    with refused("InvalidAttributeValue", "DeduplicationScope"):
        queue.change(DeduplicationScope="group")
    queue.change(FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup")
    with refused("InvalidAttributeValue", "Modifying queue type is not supported."):
        queue.change(FifoQueue="false")
    queue.change(FifoQueue="true")


def test_a_redrive_policy_needs_a_queue_of_the_same_type_and_a_count(ours: Sqs) -> None:
    standard, fifo = ours.queue(), ours.fifo()
    nowhere = f"{standard.arn}-nowhere"
    for policy in (
        "no json",
        "[]",
        "{}",
        json.dumps({"deadLetterTargetArn": standard.arn}),
        json.dumps({"deadLetterTargetArn": standard.arn, "maxReceiveCount": 0}),
        json.dumps({"deadLetterTargetArn": standard.arn, "maxReceiveCount": 1_001}),
        json.dumps({"deadLetterTargetArn": standard.arn, "maxReceiveCount": 1.5}),
        json.dumps({"deadLetterTargetArn": standard.arn, "maxReceiveCount": True}),
        json.dumps({"deadLetterTargetArn": nowhere, "maxReceiveCount": 1}),
        json.dumps({"deadLetterTargetArn": 7, "maxReceiveCount": 1}),
        json.dumps({"deadLetterTargetArn": f"{standard.arn}\ud800", "maxReceiveCount": 1}),
        json.dumps({"deadLetterTargetArn": fifo.arn, "maxReceiveCount": 1}),
    ):
        with refused("InvalidParameterValue", "RedrivePolicy"):
            ours.queue(RedrivePolicy=policy)
    queue = ours.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": standard.arn, "maxReceiveCount": "3"}))
    assert json.loads(queue.attributes()["RedrivePolicy"])["maxReceiveCount"] == 3
    queue.change(RedrivePolicy="")
    assert "RedrivePolicy" not in queue.attributes()


def test_a_dead_letter_says_where_it_comes_from(ours: Sqs) -> None:
    dead = ours.queue()
    queue = ours.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}))
    queue.send("poison", MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}})
    queue.receive(VisibilityTimeout=0)
    assert queue.receive() == []
    (message,) = dead.receive(
        AttributeNames=["DeadLetterQueueSourceArn", "AWSTraceHeader", "ApproximateReceiveCount"]
    )
    assert message["Attributes"] == {
        "DeadLetterQueueSourceArn": queue.arn,
        "AWSTraceHeader": "Root=1",
        "ApproximateReceiveCount": "2",
    }


def test_a_purge_is_refused_for_a_minute(ours: Sqs) -> None:
    queue = ours.queue()
    queue.client.purge_queue(QueueUrl=queue.url)
    with refused(f"{OLD}PurgeQueueInProgress", "is allowed every 60 seconds.", status=403):
        queue.client.purge_queue(QueueUrl=queue.url)


def test_the_name_of_a_deleted_queue_is_taken_for_a_minute(ours: Sqs) -> None:
    queue = ours.queue()
    queue.client.delete_queue(QueueUrl=queue.url)
    with refused(f"{OLD}QueueDeletedRecently", "You must wait 60 seconds"):
        queue.client.create_queue(QueueName=queue.url.rpartition("/")[2])


def test_a_list_of_queues_has_pages(ours: Sqs) -> None:
    name = ours.queue().url.rpartition("/")[2]
    for suffix in ("-b", "-c"):
        ours.client.create_queue(QueueName=name + suffix)
    page = ours.client.list_queues(QueueNamePrefix=name, MaxResults=2)
    rest = ours.client.list_queues(QueueNamePrefix=name, MaxResults=2, NextToken=page["NextToken"])
    assert [len(page["QueueUrls"]), len(rest["QueueUrls"])] == [2, 1]
    assert "NextToken" not in rest


def test_an_address_of_another_kind_is_no_queue(ours: Sqs) -> None:
    for url in ("no-url", "http://127.0.0.1/111111111111/q", "http://[::1/000000000000/q"):
        with refused("InvalidAddress"):
            ours.client.receive_message(QueueUrl=url)
    with refused(f"{OLD}NonExistentQueue", "The specified queue does not exist."):
        ours.client.receive_message(QueueUrl="http://anywhere/000000000000/absent")
    with refused("MissingParameter", "QueueUrl"):
        ours.client.receive_message(QueueUrl="")


def test_a_handle_is_for_one_queue(ours: Sqs) -> None:
    queue, other = ours.queue(), ours.queue()
    queue.send("x")
    (message,) = queue.receive()
    with refused("ReceiptHandleIsInvalid"):
        other.delete(message)
    with refused("ReceiptHandleIsInvalid"):
        queue.delete({"ReceiptHandle": message["ReceiptHandle"][:-2] + "AA"})
    assert queue.counts() == (0, 1, 0)


def test_an_older_handle_of_a_standard_queue_still_works(ours: Sqs) -> None:
    """As recorded against AWS."""
    queue = ours.queue()
    queue.send("x")
    (first,) = queue.receive(VisibilityTimeout=0)
    queue.receive(VisibilityTimeout=60)
    queue.hide(first, 0)
    assert queue.bodies() == ["x"]
    queue.delete(first)
    assert queue.counts() == (0, 0, 0)
    with refused("InvalidParameterValue", "not available for visibility timeout change"):
        queue.hide(first, 1)


def test_what_is_not_here_says_so(ours: Sqs) -> None:
    queue = ours.queue()
    with refused(f"{OLD}UnsupportedOperation", "TagQueue"):
        queue.client.tag_queue(QueueUrl=queue.url, Tags={"a": "b"})
    with refused(f"{OLD}UnsupportedOperation", "KmsMasterKeyId"):
        queue.change(KmsMasterKeyId="key")


def test_attributes_that_do_not_exist_cannot_be_asked_for(ours: Sqs) -> None:
    queue = ours.queue()
    with refused("InvalidAttributeName", "Nonsense"):
        queue.attributes("Nonsense")
    with refused("InvalidAttributeName", "Nonsense"):
        queue.receive(AttributeNames=["Nonsense"])
    assert "Attributes" not in queue.client.get_queue_attributes(QueueUrl=queue.url)
