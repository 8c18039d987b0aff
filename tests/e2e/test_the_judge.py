"""The recording client and its judge, which all delivery tests rely on, against streams that broke a promise."""

from __future__ import annotations

import pytest

from infra.chaos.event_stream import EventStreamReader, Frame
from infra.chaos.pushes import Key
from infra.chaos.stream_client import Arrival, Connection
from shared.position import Position
from tests.support.recorder import Recorder, faults

TOPIC = "gmail:ann@example.com"
EXPECTED: dict[Key, str | None] = {("s", "m1"): "1-0", ("s", "m2"): "2-0", ("s", "m3"): None}
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"d\r\nretry: 2000\n\n\r\n"
    b"1c\r\nid: 1-0\nevent: tidemark.hb\nd\r\n9\r\nata: {}\n\n\r\n"
    b"0\r\n\r\n"
)
FRAMES = [Frame("message", None, None, "2000"), Frame("tidemark.hb", "{}", "1-0", None)]


def _recorded(*connections: list[tuple[str, str]]) -> Recorder:
    """Make a record of connections, each with its events in order: message id and position, which is the id too."""
    recorder = Recorder(0, [TOPIC], name="client")
    for events in connections:
        connection = Connection(recorder.cursor, 0.0)
        connection.hello = {"cursor": recorder.cursor or "0-1"}
        connection.ids.append(Position.parse(connection.hello["cursor"]))
        for message_id, position in events:
            arrival = Arrival(("s", message_id), TOPIC, Position.parse(position), 0.0)
            connection.arrivals.append(arrival)
            connection.ids.append(arrival.position)
            recorder.events.setdefault(arrival.key, arrival)
            recorder.cursor = position
        recorder.connections.append(connection)
    return recorder


def test_a_record_that_kept_every_promise_has_no_fault() -> None:
    """An event may come again on a later connection: the client drops what it has seen."""
    recorder = _recorded([("m1", "1-0"), ("m2", "2-0")], [("m3", "3-0")])
    assert faults(recorder, EXPECTED) == []
    again = _recorded([("m1", "1-0"), ("m2", "2-0")], [("m2", "2-0"), ("m3", "3-0")])
    again.connections[1].ids[:] = [Position(1, 0), Position(2, 0), Position(3, 0)]
    again.connections[0].ids[:] = [Position(0, 1), Position(1, 0)]
    again.connections[1].cursor, again.connections[1].hello = "1-0", {"cursor": "1-0"}
    assert faults(again, EXPECTED) == []


@pytest.mark.parametrize(
    ("connections", "complaint"),
    [
        ([[("m1", "1-0"), ("m3", "3-0")]], "1 of 3 events never came"),
        ([[("m1", "1-0"), ("m2", "2-0"), ("m3", "3-0"), ("m4", "4-0")]], "events came that nobody sent"),
        ([[("m1", "1-0"), ("m2", "2-0"), ("m2", "2-0"), ("m3", "3-0")]], "2-0 after 2-0"),
        ([[("m1", "1-0"), ("m3", "3-0"), ("m2", "2-0")]], "2-0 after 3-0"),
        ([[("m1", "1-0"), ("m2", "2-0"), ("m3", "3-0")], [("m2", "4-0")]], "stands at 2-0 and again at 4-0"),
        ([[("m1", "1-0"), ("m2", "2-1"), ("m3", "3-0")]], "came at 2-1, acknowledged at 2-0"),
        ([[("m1", "1-0"), ("m3", "3-0")], [("m2", "2-0")]], "the id went back from 3-0 to 2-0"),
    ],
)
def test_a_record_of_a_broken_promise_has_a_fault_that_says_which(
    connections: list[list[tuple[str, str]]], complaint: str
) -> None:
    assert any(complaint in fault for fault in faults(_recorded(*connections), EXPECTED))


def test_a_gap_and_a_greeting_that_differs_from_the_cursor_are_faults() -> None:
    recorder = _recorded([("m1", "1-0"), ("m2", "2-0")], [("m3", "3-0")])
    recorder.connections[1].hello = {"cursor": "2-5"}
    assert len(faults(recorder, EXPECTED)) == 2
    recorder.connections[1].gaps.append({"topic": TOPIC, "after": "2-0", "resume": "2-5"})
    assert any("gap" in fault for fault in faults(recorder, EXPECTED))


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(ANSWER)])
def test_an_answer_is_read_alike_however_its_bytes_arrive(size: int) -> None:
    reader = EventStreamReader()
    pieces = [ANSWER[start : start + size] for start in range(0, len(ANSWER), size)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == FRAMES
    assert reader.status == 200
    assert reader.ended
    assert not reader.inside_frame


def test_an_answer_that_breaks_off_gives_only_whole_frames_and_knows_where_it_broke() -> None:
    """What stands in a frame that was not completed does not count: neither its id nor its data."""
    for end in range(ANSWER.rindex(b"0\r\n\r\n")):
        reader = EventStreamReader()
        frames = reader.feed(ANSWER[:end])
        assert frames == FRAMES[: len(frames)]
        assert not reader.ended
        if b"id: 1-0" in ANSWER[:end] and len(frames) < len(FRAMES):
            assert reader.inside_frame


def test_a_carriage_return_in_a_stream_is_refused() -> None:
    """By the standard it ends a line, so data that holds one could forge another."""
    with pytest.raises(ValueError, match="CR"):
        EventStreamReader().feed(b"HTTP/1.1 200 OK\r\n\r\ndata: a\rb\n\n")
