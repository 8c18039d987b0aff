"""Redis connections for the gateway: one that many callers share, one per subscription. RESP2 over asyncio.

Replies are raw: bytes, int, None, list, and `hiredis.ReplyError` *as a value* (its text is Redis's whole
error line, such as "ERR syntax error"). A status `+OK` is the object `OK`; a bulk string that happens to say
OK is plain bytes. Only a broken or missing connection raises.

With Sentinels (`redis+sentinel://…`) a connection leads to the primary of the moment and ends when that is another.
"""

from infra.local.resp.client import RespClient
from infra.local.resp.connection import RedisAddress, RespConnectionError, RespConnectionLostError
from infra.local.resp.primary import SentinelPrimary, upstream_of
from infra.local.resp.sentinel import Primary, SentinelUrl, ask
from infra.local.resp.subscriber import Subscriber
from infra.local.resp.upstream import OneRedis, Upstream
from infra.local.resp.wire import OK, Argument, Reply, ReplyParser, Status

__all__ = [
    "OK",
    "Argument",
    "OneRedis",
    "Primary",
    "RedisAddress",
    "Reply",
    "ReplyParser",
    "RespClient",
    "RespConnectionError",
    "RespConnectionLostError",
    "SentinelPrimary",
    "SentinelUrl",
    "Status",
    "Subscriber",
    "Upstream",
    "ask",
    "upstream_of",
]
