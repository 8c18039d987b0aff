"""The data directory of a local stack."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from infra.local.data_dir import DataDir, DataDirError, DataDirInUseError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


def test_the_command_line_is_asked_before_the_environment_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is made absolute at once: a later change of directory does not move it."""
    monkeypatch.chdir(tmp_path)
    assert DataDir.of("named", {"TIDEMARK_DATA_DIR": "other"}).path == tmp_path / "named"
    assert DataDir.of(None, {"TIDEMARK_DATA_DIR": "other"}).path == tmp_path / "other"
    assert DataDir.of(None, {"TIDEMARK_DATA_DIR": ""}).path == tmp_path / ".tidemark"
    assert DataDir.of(None, {}).path == tmp_path / ".tidemark"


def test_naming_a_directory_makes_nothing(directory: DataDir) -> None:
    """Only use does; asking where a stack runs is no use."""
    assert directory.running() is None
    assert not directory.path.exists()


def test_directories_inside_belong_to_their_owner_only(directory: DataDir) -> None:
    """They hold keys and mail addresses."""
    inner = directory.make("redis", "data")
    assert inner == directory.path / "redis" / "data"
    assert inner.is_dir()
    assert mode(directory.path) == 0o700
    assert directory.make("redis", "data") == inner


def test_a_directory_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    """A file stands where the directory should, or where one above it should."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirError, match=re.escape(str(path))):
            DataDir(path).make()


def test_keys_are_made_once_and_kept_for_their_owner_only(directory: DataDir) -> None:
    """A second process, and a second start, find the same."""
    first = directory.keys()
    assert DataDir(directory.path).keys() == first
    assert mode(directory.path / "keys.json") == 0o600
    assert all(len(key.encode()) >= 32 for key in first.token_keys.values())
    assert len(first.gateway_token) >= 32


def test_two_directories_have_nothing_in_common(tmp_path: Path) -> None:
    """A token of one stack is not good in another."""
    one, other = DataDir(tmp_path / "a").keys(), DataDir(tmp_path / "b").keys()
    assert set(one.token_keys.values()).isdisjoint(other.token_keys.values())
    assert one.gateway_token != other.gateway_token


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"token_keys": {"a": "b"}}',
        '{"gateway_token": "x"}',
        '{"token_keys": 7, "gateway_token": "x"}',
        '{"token_keys": {}, "gateway_token": "x"}',
    ],
)
def test_a_damaged_file_of_keys_is_an_error_that_says_what_to_do(directory: DataDir, content: str) -> None:
    """New keys are not made behind anybody's back: tokens would stop to work without a word."""
    file = directory.make() / "keys.json"
    file.write_text(content)
    with pytest.raises(DataDirError, match="remove it"):
        directory.keys()
    assert file.read_text() == content


def test_a_file_of_keys_that_cannot_be_read_is_an_error(directory: DataDir) -> None:
    """A directory of that name, for one."""
    directory.make("keys.json")
    with pytest.raises(DataDirError, match=r"keys\.json"):
        directory.keys()


def test_one_stack_at_a_time_holds_a_directory(directory: DataDir) -> None:
    """Two would write to one Redis's files; after the first has gone the next may have it."""
    with (
        directory.locked(),
        pytest.raises(DataDirInUseError, match=re.escape(str(directory.path))),
        DataDir(directory.path).locked(),
    ):
        pytest.fail("locked twice")
    with DataDir(directory.path).locked():
        assert (directory.path / "lock").exists()


def test_a_lock_is_given_back_when_its_holder_fails(directory: DataDir) -> None:
    """However the stack ends."""
    with pytest.raises(RuntimeError, match="ended"), directory.locked():
        raise RuntimeError("ended")
    with directory.locked():
        assert directory.path.is_dir()


def test_a_running_stack_is_found_by_its_directory(directory: DataDir) -> None:
    """Commands learn its origin from there, whatever port it was given."""
    with directory.locked():
        directory.note_running(
            "http://127.0.0.1:5000", {"redis": 7}, "http://127.0.0.1:5001", "http://127.0.0.1:5002"
        )
        assert directory.running() == {
            "url": "http://127.0.0.1:5000",
            "gateway_url": "http://127.0.0.1:5001",
            "queue_url": "http://127.0.0.1:5002",
            "push_auth": "on",
            "processes": {"redis": 7},
        }


def test_a_stack_that_was_killed_is_not_taken_for_running(directory: DataDir) -> None:
    """It could not take back its note, but its lock went with it."""
    with directory.locked():
        directory.note_running("http://127.0.0.1:5000", {}, "http://127.0.0.1:5001", "http://127.0.0.1:5002")
    assert directory.running() is None


def test_a_stopped_stack_is_not_found_any_more(directory: DataDir) -> None:
    """Saying so twice, or without ever having run, is no error."""
    with directory.locked():
        directory.note_running("http://127.0.0.1:5000", {}, "http://127.0.0.1:5001", "http://127.0.0.1:5002")
        for _ in range(2):
            directory.note_stopped()
            assert directory.running() is None


def test_a_torn_note_is_no_running_stack(directory: DataDir) -> None:
    """Notes are written aside and renamed; whatever else stands there is not believed."""
    with directory.locked():
        (directory.path / "stack.json").write_text('{"url": "http')
        assert directory.running() is None


def test_token_keys_of_the_environment_come_before_its_own(directory: DataDir) -> None:
    """What an application signs with can be tried against the local stack."""
    configured = directory.token_keys({"TIDEMARK_TOKEN_KEYS": "k1:" + "s" * 32})
    assert configured == {"k1": "s" * 32}
    assert not directory.path.exists()
    assert directory.token_keys({}) == directory.keys().token_keys
    with pytest.raises(DataDirError, match="TIDEMARK_TOKEN_KEYS must be"):
        directory.token_keys({"TIDEMARK_TOKEN_KEYS": "k1:short"})


def test_writing_leaves_no_draft_behind(directory: DataDir) -> None:
    """Only the files that are meant."""
    directory.keys()
    directory.note_running("u", {}, "g", "q")
    assert sorted(path.name for path in directory.path.iterdir()) == ["keys.json", "stack.json"]
    assert json.loads((directory.path / "stack.json").read_text())["url"] == "u"
