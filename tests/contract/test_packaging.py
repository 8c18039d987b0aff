"""The artifacts, for Lambda and for this machine: what is in them, how large, and that they are the same again."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.packaging import DEPLOYED, Target, build, pack
from infra.packaging.build import ROOT
from infra.packaging.target import LAMBDA_RUNTIME
from shared.settings import Function

# What every function needs: Redis by way of Upstash's library; Powertools and Sentry, which load when first needed.
COMMON = {
    "anyio", "aws_lambda_powertools", "certifi", "h11", "httpcore", "httptools", "httpx", "idna", "jmespath",
    "sentry_sdk", "typing_extensions", "upstash_redis", "urllib3",
}  # fmt: skip
VERIFIES = {"_cffi_backend", "cffi", "cryptography", "jwt"}
LIMITS = {"upstash_ratelimit"}
HOLDS = {
    Function.WEBHOOK: COMMON | VERIFIES | LIMITS | {"mangum", "starlette"},
    Function.REPLAY: COMMON | VERIFIES | LIMITS | {"mangum", "starlette"},
    Function.STREAM: COMMON | VERIFIES | LIMITS | {"click", "starlette", "uvicorn", "uvloop"},
    Function.DELIVER: COMMON,
    Function.DRILL: COMMON,
}
MEGABYTE = 1_000_000
# Below what was promised: 40 MB for the webhook, 45 MB for the stream.
MOST_BYTES = {
    Function.WEBHOOK: 30 * MEGABYTE,
    Function.REPLAY: 30 * MEGABYTE,
    Function.STREAM: 35 * MEGABYTE,
    Function.DELIVER: 15 * MEGABYTE,
    Function.DRILL: 15 * MEGABYTE,
}
ARM64 = 183  # EM_AARCH64, in the head of an ELF file
ZIPPED = (Function.WEBHOOK, Function.STREAM)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Function, Path]]:
    """Give every function's artifact for Lambda, as a folder; beside it those in ZIPPED as a zip file."""
    folder = tmp_path_factory.mktemp("lambda")

    def make(function: Function) -> None:
        build(function, folder / function.value, Target.LAMBDA)
        if function in ZIPPED:
            pack(folder / function.value, folder / f"{function.value}.zip")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(make, DEPLOYED))
    yield {function: folder / function.value for function in DEPLOYED}
    shutil.rmtree(folder)


def names(tree: Path) -> list[str]:
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.value)
def test_an_artifact_holds_what_its_function_imports_and_nothing_else(
    artifacts: Mapping[Function, Path], function: Function
) -> None:
    """No other function, no tests, no AWS SDK (the runtime has it), nothing that installs, no byte code."""
    held = names(artifacts[function])
    tops = {name.partition("/")[0].partition(".")[0] for name in held if ".dist-info/" not in name}
    assert tops == {"functions", "shared", *HOLDS[function]}
    assert {name.split("/")[1] for name in held if name.startswith("functions/")} == {"__init__.py", function.value}
    parts = {part for name in held for part in name.split("/")}
    assert not parts & {"tests", "test", "bin", "__pycache__", "RECORD", "INSTALLER", "direct_url.json", "py.typed"}
    assert not [name for name in held if name.endswith((".pyc", ".pyi", ".pyx", ".c", ".h"))]
    # Licences are to be passed on.
    distributions = {name.partition("/")[0] for name in held if ".dist-info/" in name}
    licensed = {name.partition("/")[0] for name in held if ".dist-info/" in name and "LICENSE" in name.upper()}
    assert len(distributions) > 10
    assert distributions == licensed
    assert not [name for name in distributions if name.startswith(("boto", "moto", "pip", "setuptools", "pycparser"))]


@pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.value)
def test_an_artifact_is_small_and_made_for_arm64_and_the_runtimes_python(
    artifacts: Mapping[Function, Path], function: Function
) -> None:
    files = [path for path in artifacts[function].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES[function]
    compiled = [path for path in files if path.suffix == ".so"]
    assert compiled
    for path in compiled:
        assert struct.unpack_from("<H", path.read_bytes(), 18) == (ARM64,), path
        tag = path.name.split(".")[1]
        assert tag == "abi3" or tag.startswith(f"cpython-{LAMBDA_RUNTIME.removeprefix('python').replace('.', '')}-")


def test_our_own_modules_are_those_that_the_function_reaches(artifacts: Mapping[Function, Path]) -> None:
    """With the Lua scripts, where something runs them, and the file that starts the server."""
    held = {function: set(names(tree)) for function, tree in artifacts.items()}
    assert "shared/lua/append.lua" in held[Function.WEBHOOK]
    assert "functions/stream/run.sh" in held[Function.STREAM]
    assert "shared/parking.py" in held[Function.WEBHOOK]  # imported inside of a function
    assert not {"shared/hub.py", "shared/slots.py", "shared/tokens.py"} & held[Function.WEBHOOK]
    assert not {"shared/sqs.py", "shared/push_auth.py", "shared/intake.py"} & held[Function.STREAM]
    assert not {"shared/limiter.py", "shared/jwks.py", "shared/problem.py"} & held[Function.DELIVER]
    for tree in artifacts.values():
        assert not [name for name in names(tree) if name.startswith("shared/") and not (ROOT / name).is_file()]


def test_the_same_commit_makes_the_same_bytes_in_another_folder_under_another_umask(
    artifacts: Mapping[Function, Path], tmp_path: Path
) -> None:
    """And at another time: what is compared was made before."""
    copy = tmp_path / "a checkout elsewhere"
    for folder in ("functions", "shared", "infra/packaging"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("infra/__init__.py", "requirements.txt"):
        shutil.copyfile(ROOT / file, copy / file)
    for path in copy.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (0, 0))
    done = subprocess.run(
        [sys.executable, "-m", "infra.packaging", "--out", str(tmp_path / "out"), "webhook", "stream"],
        cwd=copy,
        umask=0o077,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" MB unpacked, sha256 ") == 2
    for function in ZIPPED:
        first = artifacts[function].with_name(f"{function.value}.zip")
        assert (tmp_path / "out" / first.name).read_bytes() == first.read_bytes()


def test_the_entries_of_an_archive_say_nothing_of_where_they_come_from(artifacts: Mapping[Function, Path]) -> None:
    """One time for all, in order, readable for everybody; what starts the server can be executed."""
    with zipfile.ZipFile(artifacts[Function.STREAM].with_name("stream.zip")) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {(entry.date_time, entry.create_system) for entry in entries} == {((1980, 1, 1, 0, 0, 0), 3)}
    modes = {entry.filename: stat.S_IMODE(entry.external_attr >> 16) for entry in entries}
    assert modes.pop("functions/stream/run.sh") == 0o755
    assert set(modes.values()) == {0o644}
