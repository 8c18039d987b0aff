"""Which commands Upstash takes over REST, and how stock Redis takes those with Upstash's own script flag."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.local.resp import Argument, Reply
from infra.local.rest_refusal import not_available

# Upstash has these over TCP. Over REST each request stands alone, so there is no connection to block, to log
# in, to watch or to subscribe on; transactions and feeds have paths of their own.
_NOT_OVER_REST: Final = frozenset(
    """
    BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN
    AUTH CLIENT HELLO QUIT RESET SELECT
    DISCARD EXEC MULTI UNWATCH WATCH
    MONITOR PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE
    """.split()  # noqa: SIM905 - a word list, not forty quoted lines
)
# Upstash does not have these at all.
_NOT_AVAILABLE: Final = frozenset(
    """
    ACL ASKING BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER LASTSAVE LATENCY MEMORY MIGRATE MODULE MOVE
    PFDEBUG PFSELFTEST PSYNC READONLY READWRITE REPLCONF REPLICAOF RESTORE-ASKING ROLE SAVE SHUTDOWN SLAVEOF
    SLOWLOG SWAPDB SYNC WAIT WAITAOF
    """.split()  # noqa: SIM905 - a word list, not forty quoted lines
)

# Upstash's own script flag: https://upstash.com/docs/redis/features/key-locking
_SHEBANG: Final = re.compile(r"#!lua[ \t]+flags=([^\n]*)")
_KEY_LOCKING: Final = "allow-key-locking"


@dataclass(slots=True)
class Taken:
    """A command as stock Redis takes it, and the result to give instead of Redis's, if there is one."""

    wire: list[Argument]
    instead: Reply = None


class Intake:
    """Counts the commands and makes them ready for stock Redis; remembers the scripts whose flag it removed."""

    def __init__(self) -> None:
        self.by_command = Counter[str]()
        self._stock_shas: dict[str, str] = {}

    def take(self, command: list[Argument]) -> Taken | str:
        """Count a command and make it ready for stock Redis, or give the error that refuses it."""
        name = _text(command[0]).upper()
        self.by_command[name] += 1
        if name in _NOT_OVER_REST or (name in {"XREAD", "XREADGROUP"} and _blocks(command)):
            return f'ERR Command "{name}" is not allowed in REST or it has a special context path'
        if name in _NOT_AVAILABLE or not name:
            return not_available(name)
        if len(command) > 1:
            if name in {"EVAL", "EVAL_RO"}:
                return Taken([command[0], self._stock_script(command[1])[0], *command[2:]])
            if name in {"EVALSHA", "EVALSHA_RO"}:
                return Taken([command[0], self._stock_sha(command[1]), *command[2:]])
            if name == "SCRIPT":
                return self._take_script(command)
        return Taken(command)

    def _take_script(self, command: list[Argument]) -> Taken | str:
        """Do the same for SCRIPT. Clients know a script by the SHA-1 of their own text, flag included."""
        subcommand = _text(command[1]).upper()
        if subcommand == "LOAD" and len(command) == 3:  # noqa: PLR2004 - SCRIPT LOAD text
            stock, sha = self._stock_script(command[2])
            return Taken([*command[:2], stock], instead=sha)
        if subcommand == "EXISTS":
            return Taken([*command[:2], *map(self._stock_sha, command[2:])])
        if subcommand in {"LOAD", "FLUSH"}:
            return Taken(command)
        return not_available(f"SCRIPT {subcommand}")

    def _stock_script(self, script: Argument) -> tuple[Argument, bytes | None]:
        """Give a script without Upstash's flag, and the SHA-1 of what the client sent if it had one."""
        text = _text(script)
        if not text.startswith("#!lua") or (stripped := _without_key_locking(text)) is None:
            return script, None
        stock, sha, stock_sha = stripped
        self._stock_shas[sha] = stock_sha
        return stock, sha.encode()

    def _stock_sha(self, sha: Argument) -> Argument:
        """Give the SHA-1 under which Redis knows a script that went through `_stock_script`."""
        return self._stock_shas.get(_text(sha).lower(), sha)


@lru_cache(maxsize=256)
def _without_key_locking(script: str) -> tuple[str, str, str] | None:
    """Give the script without the flag, its own SHA-1 and the stripped one's; None without the flag."""
    match = _SHEBANG.match(script)
    flags = [flag.strip() for flag in match[1].split(",")] if match else []
    if match is None or _KEY_LOCKING not in flags:
        return None
    others = [flag for flag in flags if flag != _KEY_LOCKING]
    # The line break stays, so that the line numbers in Redis's errors are those of the client's text. Without
    # other flags the whole shebang goes: Redis 6.2 knows none.
    stock = (f"#!lua flags={','.join(others)}" if others else "") + script[match.end() :]
    return stock, _sha1(script), _sha1(stock)


def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _blocks(command: Sequence[Argument]) -> bool:
    """Tell whether an XREAD or XREADGROUP has the BLOCK option; a group or a stream may be *named* BLOCK."""
    words = iter([_text(word).upper() for word in command[1:]])
    for word in words:
        if word == "STREAMS":
            return False
        if word == "BLOCK":
            return True
        for _ in range({"GROUP": 2, "COUNT": 1}.get(word, 0)):
            next(words, None)
    return False


def _text(argument: Argument) -> str:
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
