"""Frames as the HTML standard reads them, and lines however their bytes arrive."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import sse
from shared.entry import Entry, Gap
from shared.envelope import Notification, as_object, envelope_of
from shared.position import Position
from shared.sse import LineDecoder

CURSOR = Position(1795426696974, 3)
# Everything that some parser somewhere takes for a line end, and what ends a C string.
NASTY = "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0:"
nasty = st.text(st.one_of(st.sampled_from(NASTY), st.characters()), max_size=30)


def fields(block: bytes) -> list[tuple[str, str]]:
    """Split a frame into its fields, as section 9.2.6 of the standard does."""
    assert block.endswith(b"\n\n")
    assert b"\r" not in block
    lines = block[:-2].decode("ascii").split("\n")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def data_of(block: bytes) -> Any:
    return json.loads(dict(fields(block))["data"])


def test_an_event_is_its_id_its_name_and_its_data_on_a_line_each() -> None:
    """The blank line that dispatches it is part of it: an event without one is dropped."""
    assert sse.frame(event="e", data=b"{}", cursor=CURSOR) == b"id: 1795426696974-3\nevent: e\ndata: {}\n\n"
    assert sse.frame(data=b"{}") == b"data: {}\n\n"


def test_the_reconnection_time_is_digits_only() -> None:
    """By the standard any other value is ignored."""
    assert sse.retry(2000) == b"retry: 2000\n\n"


def test_a_stream_begins_with_hello_as_in_the_contract() -> None:
    """It carries the start cursor twice: as its id and in its data."""
    hello = sse.hello(
        connection="c_1", client="tab", topics=("gmail:a@b.c",), cursor=CURSOR, expires_in_s=840, heartbeat_s=15
    )
    assert hello == (
        b"id: 1795426696974-3\n"
        b"event: tidemark.hello\n"
        b'data: {"connection":"c_1","client":"tab","topics":["gmail:a@b.c"],"cursor":"1795426696974-3",'
        b'"expires_in_s":840,"heartbeat_s":15}\n\n'
    )


def test_a_heartbeat_is_an_event_and_has_an_id_only_when_told() -> None:
    """An event, because scripts cannot see comments."""
    assert sse.heartbeat(None) == b"event: tidemark.hb\ndata: {}\n\n"
    assert sse.heartbeat(CURSOR) == b"id: 1795426696974-3\nevent: tidemark.hb\ndata: {}\n\n"


def test_a_gap_names_its_topic_and_both_of_its_ends() -> None:
    """`born` is ours and stays inside."""
    told = Gap("gmail:a@b.c", Position(1, 0), Position(9, 2), Position(5, 0))
    frame = sse.gap(told, None)
    assert fields(frame)[0] == ("event", "tidemark.gap")
    assert data_of(frame) == {"topic": "gmail:a@b.c", "after": "1-0", "resume": "9-2"}


def test_a_bye_that_asks_to_come_back_leaves_the_reconnection_time_alone() -> None:
    """Unless it is given one, jittered by the caller."""
    assert sse.bye("rotate", reconnect=True) == (
        b'event: tidemark.bye\ndata: {"reason":"rotate","reconnect":true}\n\n'
    )
    assert sse.bye("unavailable", reconnect=True, retry_ms=4321).startswith(b"retry: 4321\nevent: tidemark.bye\n")


def test_a_bye_for_good_sends_native_clients_away_for_an_hour() -> None:
    """A native EventSource cannot be told to stop; it must at least not fight over slots."""
    assert sse.bye("evicted", reconnect=False) == (
        b'retry: 3600000\nevent: tidemark.bye\ndata: {"reason":"evicted","reconnect":false}\n\n'
    )


@given(st.builds(Notification, nasty, nasty, nasty, nasty, nasty, nasty))
def test_no_value_of_an_event_can_end_its_frame(note: Notification) -> None:
    """Whatever Google or a sender put into a field, the frame is one data line that decodes to that field."""
    stored = envelope_of(note)
    frame = sse.event_data(Entry("t", CURSOR, Position(0, 0), stored))
    assert [name for name, _ in fields(frame)] == ["data"]
    assert data_of(frame) == as_object(stored, CURSOR)


@given(nasty, nasty)
def test_no_name_that_is_told_can_end_its_frame(client: str, topic: str) -> None:
    """Names are checked at the edge; the frames do not rely on it."""
    hello = sse.hello(connection="c", client=client, topics=(topic,), cursor=CURSOR, expires_in_s=1, heartbeat_s=1)
    assert [name for name, _ in fields(hello)] == ["id", "event", "data"]
    assert data_of(hello)["topics"] == [topic]
    gap = sse.gap(Gap(topic, CURSOR, CURSOR, CURSOR), CURSOR)
    assert [name for name, _ in fields(gap)] == ["id", "event", "data"]
    assert data_of(gap)["topic"] == topic


def test_an_id_line_and_event_data_make_a_whole_event() -> None:
    """The data is shared by all streams; the id is each stream's own."""
    entry = Entry("t", CURSOR, Position(0, 0), '{"a":1}')
    assert sse.id_line(CURSOR) + sse.event_data(entry) == sse.frame(
        data=b'{"a":1,"position":"1795426696974-3"}', cursor=CURSOR
    )


# -- lines


def reference(data: bytes) -> list[bytes]:
    """Split as the standard says: CRLF, LF and CR each end a line; what no end follows is no line yet."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]


def decoded(pieces: list[bytes]) -> list[bytes]:
    decoder = LineDecoder()
    return [line for piece in pieces for line in decoder.feed(piece)]


@pytest.mark.parametrize("text", [b"a\r\n\nb\n", b"\r\r\n\n\r\n", b"a\n\r\nb\r\rc\n", b"\n\r\n\r\nx\r"])
def test_lines_are_the_same_in_every_way_of_splitting_the_bytes(text: bytes) -> None:
    """Each of the 2^(n-1) ways, with empty pieces in between: a CR may come alone, and its LF with the next bytes."""
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        pieces = [text[:1]]
        for byte, cut in zip(text[1:], cuts, strict=True):
            if cut:
                pieces += [b"", bytes([byte])]
            else:
                pieces[-1] += bytes([byte])
        assert decoded(pieces) == reference(text), pieces


@given(st.lists(st.binary(max_size=8) | st.text("\r\na", max_size=8).map(str.encode)))
def test_lines_do_not_depend_on_how_their_bytes_arrive(pieces: list[bytes]) -> None:
    """Any pieces give what their sum gives."""
    assert decoded(pieces) == reference(b"".join(pieces))


def test_a_line_is_given_as_soon_as_its_end_arrives() -> None:
    """A CR ends a line at once; waiting for a possible LF would hold back the last event."""
    decoder = LineDecoder()
    assert decoder.feed(b"data: x") == []
    assert decoder.feed(b"\r") == [b"data: x"]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n") == [b""]


def test_other_line_ends_of_unicode_end_no_line() -> None:
    """U+2028 and its kind are content in an event stream."""
    text = "a\u2028b\x0bc\x85\n".encode()
    assert LineDecoder().feed(text) == [text[:-1]]


def test_an_endless_line_is_refused_before_it_fills_the_memory() -> None:
    """A line may hold as much as the limit; one more is refused, with its end or without."""
    decoder = LineDecoder(max_line=10)
    assert decoder.feed(b"0123456789") == []
    assert decoder.feed(b"\n0123456789") == [b"0123456789"]
    with pytest.raises(ValueError, match="too long"):
        decoder.feed(b"X")
    with pytest.raises(ValueError, match="too long"):
        LineDecoder(max_line=10).feed(b"0123456789X\nY\n")
