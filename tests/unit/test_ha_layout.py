"""Which of two Redis had the log last: what the Sentinels' files say, and what counts when they say nothing."""

from __future__ import annotations

import itertools
import re
import socket
import stat
from pathlib import Path

import pytest

from infra.local.data_dir import DataDirError
from infra.local.ha import Layout, Node
from infra.local.ha.sentinel_file import Known, known_primary


def other(layout: Layout) -> Node:
    (node,) = (node for node in layout.nodes if node != layout.primary())
    return node


def failover(layout: Layout, to: Node, epoch: int, *names: str) -> None:
    """Let these Sentinels write down a failover, in the lines and the order in which a Sentinel writes them."""
    for name in names:
        file = layout.sentinel_file(name)
        text = re.sub(r"(?m)^(sentinel monitor \S+ \S+) \d+", rf"\1 {to.port}", file.read_text())
        text = re.sub(r"(?m)^sentinel config-epoch .*\n", "", text)
        file.write_text(f"{text}\nsentinel config-epoch tidemark {epoch}\nsentinel current-epoch {epoch}\n")


def test_the_first_start_ever_begins_with_the_first_redis(tmp_path: Path) -> None:
    """Everything that the parts need is there, for their owner only."""
    layout = Layout.prepare(tmp_path, fronts=False)
    assert layout.primary() == layout.nodes[0] == Node("redis-1", layout.nodes[0].port, layout.nodes[0].port)
    assert [node.name for node in layout.nodes] == ["redis-1", "redis-2"]
    assert list(layout.sentinels) == ["sentinel-1", "sentinel-2", "sentinel-3"]
    assert len({*layout.sentinels.values(), *(node.port for node in layout.nodes)}) == 5
    assert layout == Layout.read(tmp_path)
    hosts = ",".join(f"127.0.0.1:{port}" for port in layout.sentinels.values())
    assert layout.url == f"redis+sentinel://{hosts}/tidemark"
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_with_fronts_a_redis_listens_elsewhere_than_others_think(tmp_path: Path) -> None:
    layout = Layout.prepare(tmp_path, fronts=True)
    assert len({port for node in layout.nodes for port in (node.port, node.listens)}) == 4


def test_the_last_failover_counts_though_only_one_sentinel_had_heard_of_it(tmp_path: Path) -> None:
    """The one that led it writes it down first, and somebody may have written to the new primary since."""
    layout = Layout.prepare(tmp_path, fronts=False)
    failover(layout, other(layout), 7, "sentinel-3")
    assert layout.primary().name == "redis-2"
    failover(layout, layout.nodes[0], 8, "sentinel-1")
    assert layout.primary().name == "redis-1"
    failover(layout, layout.nodes[1], 10, "sentinel-2")
    assert layout.primary().name == "redis-2"


def test_the_next_start_has_the_last_primary_on_new_ports(tmp_path: Path) -> None:
    """Epochs begin anew with it, and the one after it still knows."""
    first = Layout.prepare(tmp_path, fronts=False)
    failover(first, other(first), 7, "sentinel-1", "sentinel-2", "sentinel-3")
    for _ in range(2):
        layout = Layout.prepare(tmp_path, fronts=False)
        assert layout.primary().name == "redis-2"
        for name in layout.sentinels:
            assert known_primary(layout.sentinel_file(name), "tidemark") == Known(0, layout.nodes[1].port)
    failover(layout, other(layout), 1, "sentinel-2")
    assert Layout.prepare(tmp_path, fronts=False).primary().name == "redis-1"


def test_every_port_is_free(tmp_path: Path) -> None:
    layout = Layout.prepare(tmp_path, fronts=True)
    for port in (*layout.sentinels.values(), *(p for node in layout.nodes for p in (node.port, node.listens))):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize("step", range(8))
def test_killed_at_any_write_of_a_start_the_next_one_has_the_same_primary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Old Sentinels' files are never read with new ports, nor new ones with the old: here both have the same."""
    choices = itertools.cycle([(1, 2, 3, 4, 5), (1, 2, 3, 5, 4)])
    monkeypatch.setattr("infra.local.ha.layout._free_ports", lambda _count: [*next(choices)])
    layout = Layout.prepare(tmp_path, fronts=False)
    failover(layout, other(layout), 7, "sentinel-1", "sentinel-2", "sentinel-3")
    assert layout.primary().name == "redis-2"

    class KilledError(BaseException):
        pass

    writes = 0
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        nonlocal writes
        if writes == step:
            raise KilledError
        writes += 1
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        try:
            Layout.prepare(tmp_path, fronts=False)
        except KilledError:
            assert writes == step
        else:
            assert writes == 5, "a layout without ports, three Sentinels, the layout"
    assert Layout.prepare(tmp_path, fronts=False).primary().name == "redis-2"


@pytest.mark.parametrize(
    "damage", ["", "sentinel monitor tidemark", "\x00\xff", "sentinel monitor other 127.0.0.1 1 2"]
)
def test_a_damaged_file_of_a_sentinel_is_passed_over(tmp_path: Path, damage: str) -> None:
    """Without any of them it is as it was when the parts were started."""
    layout = Layout.prepare(tmp_path, fronts=False)
    failover(layout, other(layout), 3, "sentinel-1", "sentinel-2", "sentinel-3")
    layout.sentinel_file("sentinel-1").write_text(damage, encoding="latin-1")
    layout.sentinel_file("sentinel-2").unlink()
    assert layout.primary().name == "redis-2"
    layout.sentinel_file("sentinel-3").write_text(damage, encoding="latin-1")
    assert layout.primary().name == "redis-1"


@pytest.mark.parametrize(
    "damage",
    ["", "{}", "[]", "null", '{"primary": "redis-9", "nodes": [], "sentinels": {}}', '{"primary": "redis-1"}', None],
)
def test_where_nothing_says_which_redis_counts_none_is_started(tmp_path: Path, damage: str | None) -> None:
    """One of the two would drop its data. The message says what to do."""
    Layout.prepare(tmp_path, fronts=False)
    file = tmp_path / "layout.json"
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(DataDirError, match=f"remove {re.escape(str(tmp_path))} to begin with an empty log"):
        Layout.prepare(tmp_path, fronts=False)


def test_a_directory_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "redis-1").write_text("")
    with pytest.raises(DataDirError, match=re.escape(str(tmp_path))):
        Layout.prepare(tmp_path, fronts=False)


@pytest.mark.parametrize("name", ["with space", 'quo"te', "back\\slash", "Ünïcode"])
def test_any_path_can_be_written_into_a_sentinels_file(tmp_path: Path, name: str) -> None:
    """As Redis reads it: in double quotes, with backslashes before what would end them."""
    directory = tmp_path / name
    directory.mkdir()
    layout = Layout.prepare(directory, fronts=False)
    (line,) = re.findall(r'(?m)^dir "(.*)"$', layout.sentinel_file("sentinel-1").read_text())
    assert re.sub(r"\\(.)", r"\1", line) == str(directory / "sentinel-1")
