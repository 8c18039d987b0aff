"""The stream function as a container, as far as it can be run without an engine: laid out and started as it says."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.packaging import Target, build
from infra.packaging.build import ROOT
from shared.settings import Function
from shared.tokens import mint
from tests.support.dockerfile import let_through, of, stages
from tests.support.gateway import GatewayProcess, eventually, free_port
from tests.support.lambda_events import KID, TOKEN_KEY, environment
from tests.support.require import require

DOCKERFILE = ROOT / "infra/container/Dockerfile"
IGNORE = DOCKERFILE.with_name("Dockerfile.dockerignore")
BUILD, IMAGE = stages(DOCKERFILE)
ENDS_WITHIN_S = 4.0
WELL, HERE = "/app/", f"python{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def app() -> Iterator[Path]:
    """Lay out ``/app``, where everybody may read and nobody but root may write."""
    folder = Path(tempfile.mkdtemp(prefix="tidemark-container-"))
    try:
        folder.chmod(0o755)
        build(Function.STREAM, folder / "app", Target.HOST)
        (folder / "bin").mkdir(mode=0o755)
        (folder / "bin/python3").symlink_to(python())
        yield folder / "app"
    finally:
        shutil.rmtree(folder)


def user() -> int | None:
    """Give the user that the image names; None where only root could become another."""
    return int(of(IMAGE, "USER")[0].rest.partition(":")[0]) if os.getuid() == 0 else None


def python() -> str:
    """Find a Python like this one that the image's user may run."""
    named = [str(Path(sys.executable).resolve()), f"/usr/bin/{HERE}"]
    found = [path for path in named if Path(path).exists() and _runs(path)]
    require(bool(found), f"a {HERE} that another user may run")
    return found[0]


def _runs(path: str) -> bool:
    try:
        argv = [path, "-I", "-S", "-c", "import ssl"]
        return subprocess.run(argv, user=user(), cwd="/", check=False).returncode == 0
    except PermissionError:
        return False


@contextlib.contextmanager
def running(app: Path, gateway: GatewayProcess, stage: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Start the image's command as its user, with its environment and what an operator adds."""
    image = dict(pair.split("=", 1) for instruction in of(IMAGE, "ENV") for pair in shlex.split(instruction.rest))
    port = str(free_port())
    environ = {**image, **environment(gateway, stage), "PORT": port, "PATH": f"{app.parent / 'bin'}:/usr/bin:/bin"}
    process = subprocess.Popen(
        [argument.replace(WELL, f"{app}/") for argument in of(IMAGE, "CMD")[0].argv()],
        cwd=str(app.parent) + of(IMAGE, "WORKDIR")[0].rest,
        env=environ,
        user=user(),
        extra_groups=[] if user() else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        eventually(lambda: check(environ) or process.poll() is not None, "it takes connections", timeout_s=15)
        yield process, environ
    finally:
        process.kill()
        process.communicate()


def check(environ: dict[str, str]) -> bool:
    """Run the image's health check."""
    argv = of(IMAGE, "HEALTHCHECK")[0].argv()
    return subprocess.run(argv, env=environ, stderr=subprocess.DEVNULL, check=False, timeout=10).returncode == 0


def test_all_that_the_image_copies_is_in_the_context_and_nothing_else() -> None:
    """No key, no data and no environment of a checkout is sent to whoever builds it."""
    sources = [source for copy in of(BUILD, "COPY") for source in copy.rest.split()[:-1]]
    assert {"functions", "shared", "infra/packaging", "requirements.txt", "requirements-deploy.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert let_through(IGNORE, f"{source}/any.py" if (ROOT / source).is_dir() else source), source
    for path in (".tidemark/keys.json", ".venv/bin/python", ".git/config", "tests/conftest.py", "infra/cli.py"):
        assert not let_through(IGNORE, path), path
    assert not let_through(IGNORE, "shared/__pycache__/log.cpython-311.pyc")


def test_nobody_is_root_and_the_signal_goes_to_the_server() -> None:
    """The user is a number, and the command needs no shell before it."""
    assert int(of(IMAGE, "USER")[0].rest.partition(":")[0]) > 0
    assert of(IMAGE, "CMD")[0].argv() == [f"{WELL}functions/stream/run.sh"]
    assert of(IMAGE, "STOPSIGNAL")[0].rest == "SIGTERM"
    assert "exec python3 -m uvicorn" in (ROOT / "functions/stream/run.sh").read_text()


def test_it_serves_as_somebody_else_and_says_goodbye_when_it_is_told_to_end(
    app: Path, gateway: GatewayProcess, key_prefix: str
) -> None:
    """On every interface; from files that it could not change; within what any host allows."""
    token = mint("ann", ["gmail:ann@example.com"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    with running(app, gateway, key_prefix.strip(":")) as (process, environ):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert user() is None or f"\nUid:\t{user()}\t{user()}\t" in status
        # Only who listens on all of them is heard there.
        url = f"http://127.0.0.2:{environ['PORT']}"
        assert httpx.get(f"{url}/healthz", trust_env=False).json()["status"] == "ok"
        with httpx.stream("GET", f"{url}/events", params={"token": token}, trust_env=False, timeout=10) as stream:
            frames = stream.iter_text()
            seen = next(frames)
            while "tidemark.hello" not in seen:
                seen += next(frames)
            process.send_signal(signal.SIGTERM)
            told_at = time.monotonic()
            seen += "".join(frames)
        # The server ends by the signal that it was told to end by; the first process of a container ends with 0.
        assert process.wait(10) in {0, -signal.SIGTERM}
        assert time.monotonic() - told_at < ENDS_WITHIN_S
        assert not check(environ)
    assert 'event: tidemark.bye\ndata: {"reason":"shutdown","reconnect":true}' in seen


def test_it_stays_alive_while_redis_is_away(app: Path, key_prefix: str) -> None:
    """Its health check asks whether it takes connections; a container that was ended would take its streams along."""
    away = GatewayProcess("redis://127.0.0.1:1", Path(tempfile.gettempdir()))
    with running(app, away, key_prefix.strip(":")) as (_, environ):
        health = httpx.get(f"http://127.0.0.1:{environ['PORT']}/healthz", trust_env=False, timeout=10)
        assert health.status_code == 503
        assert check(environ)
