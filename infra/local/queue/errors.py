"""The errors of SQS, each with its name in the JSON protocol, its older name, and its HTTP status.

Clients see the older name: AWS sends it in the header `x-amzn-query-error`, and boto3 takes it as the error's code.
"""

from __future__ import annotations

from typing import Any, Final

_SQS: Final = "com.amazonaws.sqs#"
_CORAL: Final = "com.amazon.coral.service#"
_OLD: Final = "AWS.SimpleQueueService."


class QueueError(Exception):
    """The request, or one entry of its batch, is refused."""

    def __init__(self, kind: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
        self.status = status

    @property
    def header(self) -> str:
        """Give the value of `x-amzn-query-error`."""
        return f"{self.code};{'Sender' if self.status < 500 else 'Receiver'}"  # noqa: PLR2004 - HTTP's boundary

    def body(self) -> dict[str, str]:
        """Give the answer's JSON body."""
        return {"__type": self.kind, "message": self.message}

    def entry(self, entry_id: str) -> dict[str, Any]:
        """Give the place of a refused entry in the answer to its batch."""
        return {"Id": entry_id, "SenderFault": True, "Code": self.code, "Message": self.message}


# -- parameters


def invalid_value(message: str) -> QueueError:
    """Say that a parameter is against a rule."""
    return QueueError(f"{_CORAL}InvalidParameterValueException", "InvalidParameterValue", message)


def invalid_parameter(value: object, name: str, reason: str) -> QueueError:
    """Say which parameter is against a rule, in the form that most of these messages have."""
    return invalid_value(f"Value {value} for parameter {name} is invalid. Reason: {reason}")


def missing(name: str) -> QueueError:
    """Say that a parameter is missing, or empty where it must not be."""
    message = f"The request must contain the parameter {name}."
    return QueueError(f"{_CORAL}MissingRequiredParameterException", "MissingParameter", message)


def serialization(message: str) -> QueueError:
    """Say that the body is not JSON, or that a value in it has the wrong type."""
    return QueueError(f"{_CORAL}SerializationException", "MalformedInput", message)


def unsupported(what: str) -> QueueError:
    """Refuse what AWS has and this server has not."""
    message = f"{what} is not supported by the local queue server"
    return QueueError(f"{_SQS}UnsupportedOperation", f"{_OLD}UnsupportedOperation", message)


def unknown_operation(target: str) -> QueueError:
    """Say that there is no such action."""
    message = f"Unknown operation {target}"
    return QueueError(f"{_CORAL}UnknownOperationException", "InvalidAction", message)


def unknown_attribute(name: str) -> QueueError:
    """Say that a queue or a message has no such attribute."""
    return invalid_attribute_name(f"Unknown Attribute {name}.")


def invalid_attribute_name(message: str) -> QueueError:
    """Say why an attribute cannot be given."""
    return QueueError(f"{_SQS}InvalidAttributeName", "InvalidAttributeName", message)


def invalid_attribute(name: str, reason: str = "") -> QueueError:
    """Say that an attribute of a queue cannot have the value."""
    message = f"Invalid value for the parameter {name}.{' Reason: ' if reason else ''}{reason}"
    return QueueError(f"{_SQS}InvalidAttributeValue", "InvalidAttributeValue", message)


# -- queues


def no_such_queue() -> QueueError:
    """Say that the queue does not exist."""
    code = f"{_OLD}NonExistentQueue"
    return QueueError(f"{_SQS}QueueDoesNotExist", code, "The specified queue does not exist.")


def invalid_address(url: str) -> QueueError:
    """Say that a queue URL is none of ours."""
    message = f"The address {url} is not valid for this endpoint."
    return QueueError(f"{_SQS}InvalidAddress", "InvalidAddress", message)


def queue_exists(attribute: str) -> QueueError:
    """Say that a queue cannot be created again with other attributes."""
    message = f"A queue already exists with the same name and a different value for attribute {attribute}"
    return QueueError(f"{_SQS}QueueNameExists", "QueueAlreadyExists", message)


def deleted_recently() -> QueueError:
    """Say that a deleted queue's name is not free yet."""
    message = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    return QueueError(f"{_SQS}QueueDeletedRecently", f"{_OLD}QueueDeletedRecently", message)


def purge_in_progress(name: str) -> QueueError:
    """Say that a queue was purged less than a minute ago."""
    message = f"Only one PurgeQueue operation on {name} is allowed every 60 seconds."
    return QueueError(f"{_SQS}PurgeQueueInProgress", f"{_OLD}PurgeQueueInProgress", message, 403)


def over_limit(message: str) -> QueueError:
    """Say that too many messages are in flight."""
    return QueueError(f"{_SQS}OverLimit", "OverLimit", message)


# -- messages


def invalid_contents(message: str) -> QueueError:
    """Say that a body has a character that no message may have."""
    return QueueError(f"{_SQS}InvalidMessageContents", "InvalidMessageContents", message)


def invalid_receipt() -> QueueError:
    """Say that a receipt handle was never given for this queue."""
    message = "The input receipt handle is invalid."
    return QueueError(f"{_SQS}ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", message)


# -- batches


def empty_batch(entry: str) -> QueueError:
    """Say that a batch has no entry."""
    message = f"There should be at least one {entry} in the request."
    return QueueError(f"{_SQS}EmptyBatchRequest", f"{_OLD}EmptyBatchRequest", message)


def too_many_entries(number: int) -> QueueError:
    """Say that a batch has more entries than ten."""
    message = f"Maximum number of entries per request are 10. You have sent {number}."
    code = "TooManyEntriesInBatchRequest"
    return QueueError(f"{_SQS}{code}", f"{_OLD}{code}", message)


def invalid_entry_id() -> QueueError:
    """Say what an entry's id must be."""
    message = (
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        "It can be at most 80 letters long."
    )
    return QueueError(f"{_SQS}InvalidBatchEntryId", f"{_OLD}InvalidBatchEntryId", message)


def repeated_entry_id(entry_id: str) -> QueueError:
    """Say that two entries have one id."""
    code = "BatchEntryIdsNotDistinct"
    return QueueError(f"{_SQS}{code}", f"{_OLD}{code}", f"Id {entry_id} repeated.")


def batch_too_long(limit: int, size: int) -> QueueError:
    """Say that the messages of a batch are too large together."""
    message = f"Batch requests cannot be longer than {limit} bytes. You have sent {size} bytes."
    return QueueError(f"{_SQS}BatchRequestTooLong", f"{_OLD}BatchRequestTooLong", message)


# -- who asks


def missing_token() -> QueueError:
    """Say that the request is not signed."""
    message = "Request is missing Authentication Token"
    code = "MissingAuthenticationToken"
    return QueueError(f"{_CORAL}{code}Exception", code, message, 403)


def incomplete_signature(message: str) -> QueueError:
    """Say what the Authorization header lacks."""
    return QueueError(f"{_CORAL}IncompleteSignatureException", "IncompleteSignature", message, 403)


def unknown_key() -> QueueError:
    """Say that the access key is not ours."""
    message = "The security token included in the request is invalid."
    return QueueError(f"{_CORAL}UnrecognizedClientException", "InvalidClientTokenId", message, 403)


def wrong_signature(message: str) -> QueueError:
    """Say that the signature does not fit the request, or not the time."""
    return QueueError(f"{_CORAL}InvalidSignatureException", "SignatureDoesNotMatch", message, 403)


# -- the server


def too_large(limit: int) -> QueueError:
    """Refuse a body that no allowed request needs."""
    message = f"Request is larger than {limit} bytes"
    return QueueError(f"{_CORAL}RequestEntityTooLargeException", "RequestEntityTooLarge", message, 413)


def unavailable() -> QueueError:
    """Say that the store failed; the reason is in the log."""
    message = "The store failed."
    return QueueError(f"{_CORAL}ServiceUnavailableException", "ServiceUnavailable", message, 503)
