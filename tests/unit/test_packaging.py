"""What is packed is found by reading: our own modules by their imports, the others by the lock file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httptools.parser.parser
import pytest

from infra.packaging import PackagingError, Target, build
from infra.packaging.__main__ import main
from infra.packaging.archive import pack
from infra.packaging.build import DEPLOYED, LOCK_FILE, ROOT
from infra.packaging.bytecode import add_bytecode
from infra.packaging.locked import Locked
from infra.packaging.reach import reach
from infra.packaging.strip import strip
from infra.packaging.target import LAMBDA_RUNTIME
from infra.packaging.uv import install
from shared.settings import Function

_LOAD_MODULE = """
import importlib.util, sys, httptools
spec = importlib.util.spec_from_file_location("httptools.parser.parser", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.__file__ == sys.argv[1] and callable(module.HttpResponseParser))
"""
LOCK = """# This file was written by a tool
alpha==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via
    #   tidemark (pyproject.toml)
    #   gamma
beta==2.0 ; sys_platform != 'win32' \\
    --hash=sha256:bb
    # via alpha
gamma==3.0 \\
    --hash=sha256:cc
    # via tidemark (pyproject.toml)
"""


def written(root: Path, **files: str) -> Path:
    """Write modules, with two underscores for each folder, and their packages."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
        path.write_text(text)
    return root


def locked(tmp_path: Path, text: str = LOCK) -> Locked:
    (tmp_path / "requirements.txt").write_text(text)
    return Locked.read(tmp_path / "requirements.txt")


def test_imports_are_followed_also_inside_of_functions_but_not_those_for_type_checkers(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        functions__one__handler="from shared import late\nimport json, other.part\n",
        functions__two__handler="import shared.unused\n",
        shared__late="def f():\n    from shared.deep import thing\n    import lazy\n",
        shared__deep="from typing import TYPE_CHECKING\nthing = 1\nif TYPE_CHECKING:\n    import unseen\n",
        shared__unused="",
    )
    found = reach(root, Path("functions/one"))
    assert {path.as_posix() for path in found.own} == {
        "functions/__init__.py", "functions/one/__init__.py", "functions/one/handler.py",
        "shared/__init__.py", "shared/late.py", "shared/deep.py",
    }  # fmt: skip
    assert {name: path.name for name, path in found.others.items()} == {"other": "handler.py", "lazy": "late.py"}


@pytest.mark.parametrize(
    ("text", "told"),
    [("from . import sibling\n", "relative import"), ("import shared.missing.part\n", "no module of ours")],
)
def test_an_import_that_cannot_be_followed_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    """What would be missing on Lambda is missing here."""
    with pytest.raises(PackagingError, match=told):
        reach(written(tmp_path, functions__one__handler=text), Path("functions/one"))


def test_a_part_of_the_lock_file_is_what_was_named_and_what_that_needs(tmp_path: Path) -> None:
    """With its hashes and conditions, in order, without the rest."""
    subset = locked(tmp_path).subset(["gamma"])
    assert subset == LOCK.split("\n", 1)[1].replace(
        "    # via\n    #   tidemark (pyproject.toml)\n    #   gamma\n", ""
    ).replace("    # via alpha\n", "").replace("    # via tidemark (pyproject.toml)\n", "")
    assert "alpha" not in locked(tmp_path).subset(["beta"])
    assert "beta" not in locked(tmp_path).subset(["gamma"], without=["beta"])


def test_what_is_not_locked_is_not_packed(tmp_path: Path) -> None:
    """A library that no dependency brings, and a lock file without hashes."""
    with pytest.raises(PackagingError, match="delta is not in the lock file"):
        locked(tmp_path).subset(["delta"])
    with pytest.raises(PackagingError, match="run make lock"):
        locked(tmp_path, "alpha==1.0\n")
    with pytest.raises(PackagingError, match="run make lock"):
        locked(tmp_path, "")


@pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.value)
def test_everything_that_a_function_imports_is_locked(function: Function) -> None:
    """Whatever module of ours it comes from; what the runtime has is no dependency."""
    others = set(reach(ROOT, Path("functions", function.value)).others)
    names = {"jwt": "pyjwt"}
    known = Locked.read(ROOT / LOCK_FILE).blocks.keys() | {"botocore"}
    assert {names.get(name, name.replace("_", "-")) for name in others} <= known


def test_an_archive_depends_on_names_contents_and_modes_only(tmp_path: Path) -> None:
    for name in ("first", "second"):
        for path in ("b/two", "a/one", "run.sh"):
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(path)
        strip(tmp_path / name)
        pack(tmp_path / name, tmp_path / f"{name}.zip")
    first, second = ((tmp_path / f"{name}.zip").read_bytes() for name in ("first", "second"))
    assert first == second
    (tmp_path / "second/b/two").write_text("changed")
    pack(tmp_path / "second", tmp_path / "second.zip")
    assert (tmp_path / "second.zip").read_bytes() != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "first.zip", "second", "second.zip"]


def test_compiled_modules_lose_what_only_debuggers_read(tmp_path: Path) -> None:
    """They load as before; what is no such file stays as it is."""
    module = Path(httptools.parser.parser.__file__)
    slimmed, text = tmp_path / module.name, tmp_path / "text.so"
    slimmed.write_bytes(module.read_bytes())
    text.write_text("no module")
    strip(tmp_path)
    assert slimmed.stat().st_size < module.stat().st_size
    assert text.read_text() == "no module"
    argv = [sys.executable, "-c", _LOAD_MODULE, str(slimmed)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "True\n"
    strip(tmp_path)
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "True\n"


def test_byte_code_depends_on_neither_the_folder_nor_the_time_and_is_not_checked_again(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        tree = written(
            tmp_path / name, functions__one__handler="import json\n\n\ndef f(x):\n    return json.dumps(x)\n"
        )
        os.utime(tree / "functions/one/handler.py", (len(name), len(name)))
        add_bytecode(tree, sys.executable, Target.HOST.python)
        compiled = sorted(tree.rglob("*.pyc"))
        made.append([path.read_bytes() for path in compiled])
        assert {path.read_bytes()[4:8] for path in compiled} == {b"\1\0\0\0"}  # PEP 552: by hash, unchecked
    assert made[0] == made[1]
    assert len(made[0]) == 3


def test_byte_code_is_made_by_the_version_that_runs_it_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"the functions run on CPython 3\.99"):
        add_bytecode(tmp_path, sys.executable, "3.99")
    with pytest.raises(PackagingError, match="cannot compile"):
        add_bytecode(tmp_path, str(tmp_path / "python"), "3.99")


def test_what_uv_cannot_have_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "requirements.txt").write_text(Locked.read(ROOT / LOCK_FILE).subset(["mangum"]))
    with pytest.raises(PackagingError, match=r"is there a network[\s\S]*mangum"):
        install(tmp_path / "requirements.txt", tmp_path / "into", Target.LAMBDA)


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    block = Locked.read(ROOT / LOCK_FILE).blocks["mangum"].splitlines()
    (tmp_path / "requirements.txt").write_text(f"{block[0]}\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(PackagingError, match="mangum"):
        install(tmp_path / "requirements.txt", tmp_path / "into", Target.LAMBDA)
    assert not list((tmp_path / "into").glob("mangum*"))


def test_without_uv_there_is_a_word_about_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--out", str(tmp_path), "webhook"]) == 1
    assert capsys.readouterr().err == (
        "packaging: uv is missing, which fetches what the functions need: `make artifacts` brings it\n"
    )


def test_a_function_that_there_is_not_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["local"])
    assert caught.value.code == 2
    assert "there is no function local: webhook, stream, replay, deliver, drill" in capsys.readouterr().err


def test_what_lies_in_a_folder_is_not_mixed_with_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "old.py").touch()
    with pytest.raises(PackagingError, match="is not empty"):
        build(Function.WEBHOOK, tmp_path, Target.HOST)


def test_the_container_has_the_runtimes_python() -> None:
    """One version for both: what was tested on one runs on the other."""
    dockerfile = (ROOT / "infra/container/Dockerfile").read_text()
    assert f"ARG PYTHON={LAMBDA_RUNTIME.replace('python', 'python:')}-slim\n" in dockerfile
