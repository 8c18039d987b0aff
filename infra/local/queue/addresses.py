"""Queue URLs: `http://host:port/000000000000/NAME`, under whatever host the client has reached the server."""

from __future__ import annotations

from urllib.parse import urlsplit

from infra.local.queue import errors, limits
from infra.local.queue.fields import Fields


def url_of(base_url: str, name: str) -> str:
    """Give a queue's URL."""
    return f"{base_url}/{limits.ACCOUNT}/{name}"


def name_in(fields: Fields) -> str:
    """Give the name of the queue that a request is for. Raises QueueError."""
    url = fields.required("QueueUrl")
    try:
        path = urlsplit(url).path
    except ValueError:
        raise errors.invalid_address(url) from None
    root, _, rest = path.partition("/")
    account, _, name = rest.partition("/")
    if root or account != limits.ACCOUNT or not name:
        raise errors.invalid_address(url)
    try:
        limits.check_queue_name(name, fifo=limits.is_fifo_name(name))
    except errors.QueueError:
        raise errors.no_such_queue() from None
    return name
