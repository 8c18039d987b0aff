"""The data directory of a local stack: its keys, its data, and where it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.push_signer import PushSigner, new_key
from shared.settings import parse_token_keys

DEFAULT = ".tidemark"
VARIABLE = "TIDEMARK_DATA_DIR"
KEYS_VARIABLE = "TIDEMARK_TOKEN_KEYS"
DEFAULT_URL = "http://127.0.0.1:8787"


class DataDirInUseError(Exception):
    """Another `tidemark dev` runs on this data directory."""


class DataDirError(Exception):
    """The data directory cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class LocalKeys:
    """Secrets of a local stack: client token keys by kid, and the gateway's REST token."""

    token_keys: Mapping[str, str]
    gateway_token: str


def _local_keys(kept: Any) -> LocalKeys:
    token_keys = dict(kept["token_keys"])
    if not token_keys:
        raise ValueError("no key for client tokens")
    return LocalKeys(token_keys, str(kept["gateway_token"]))


def _configured_keys(text: str) -> dict[str, str]:
    try:
        return parse_token_keys(text)
    except ValueError as error:
        raise DataDirError(f"{KEYS_VARIABLE} {error}") from None


class DataDir:
    """A directory, made when it is first needed and readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, named: str | None, environ: Mapping[str, str]) -> DataDir:
        """Return the directory named on the command line, else by the environment, else the default."""
        return cls(Path(named or environ.get(VARIABLE) or DEFAULT).resolve())

    def make(self, *parts: str) -> Path:
        """Return a directory inside, made if need be. Raises DataDirError."""
        directory = self.path.joinpath(*parts)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DataDirError(f"cannot use the data directory {self.path}: {error.strerror}") from error
        return directory

    def token_keys(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return the keys for client tokens: the environment's, else the stack's own. Raises DataDirError."""
        configured = environ.get(KEYS_VARIABLE)
        return self.keys().token_keys if configured is None else _configured_keys(configured)

    def keys(self) -> LocalKeys:
        """Return the stack's own secrets, made on first use. Raises DataDirError if the file is damaged."""
        file = self.make() / "keys.json"
        fresh = {"token_keys": {"local": secrets.token_urlsafe(32)}, "gateway_token": secrets.token_urlsafe(32)}
        try:
            if not file.exists():
                self._write(file, json.dumps(fresh))
            return _local_keys(json.loads(file.read_text()))
        except OSError as error:
            raise DataDirError(f"cannot use {file}: {error.strerror}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise DataDirError(f"{file} is damaged: remove it to have new keys made") from error

    def push_signer(self) -> PushSigner:
        """Return what signs pushes to this stack; its key is made on first use. Raises DataDirError."""
        file = self.push_key_file
        try:
            if not file.exists():
                self._write(file, new_key())
            return PushSigner.of(file)
        except OSError as error:
            raise DataDirError(f"cannot use {file}: {error.strerror}") from error
        except ValueError as error:
            raise DataDirError(f"{file} is damaged: remove it to have a new key made") from error

    @property
    def push_key_file(self) -> Path:
        """Where the key that signs pushes is kept, once `push_signer` was called."""
        return self.make() / "push_key.pem"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one running stack. Raises DataDirInUseError."""
        with (self.make() / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataDirInUseError(f"another tidemark dev runs on {self.path}") from None
            yield

    def note_running(
        self, url: str, processes: Mapping[str, int], gateway_url: str, queue_url: str, *, push_auth: str = "on"
    ) -> None:
        """Say where the stack runs, as which processes (name to process id), and whether it verifies pushes."""
        noted = {
            "url": url,
            "gateway_url": gateway_url,
            "queue_url": queue_url,
            "push_auth": push_auth,
            "processes": dict(processes),
        }
        self._write(self.path / "stack.json", json.dumps(noted))

    def note_stopped(self) -> None:
        """Say that the stack no longer runs."""
        (self.path / "stack.json").unlink(missing_ok=True)

    def running(self) -> dict[str, Any] | None:
        """Return what `note_running` has said last, if the stack runs (it could not say so if it was killed)."""
        try:
            noted: dict[str, Any] = json.loads((self.path / "stack.json").read_text())
        except (OSError, ValueError):
            return None
        return noted if self._is_locked() else None

    def _is_locked(self) -> bool:
        try:
            with (self.path / "lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    @staticmethod
    def _write(file: Path, content: str) -> None:
        # Written aside and renamed, so that a reader never sees half of it.
        draft = file.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(content)
        draft.replace(file)
