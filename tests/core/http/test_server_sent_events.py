"""How a stream of Server-Sent Events is parsed."""

import pytest

from waitd.core.http import server_sent_events
from waitd.core.http.server_sent_events import EventParser, EventTooLarge, ServerSentEvent

STREAM = (
    b'retry: 1000\nid: 4\n\n: quiet\n\nid: 5\ndata: {"a":1}\n\n:\n\n'
    b"event: x\ndata:one\ndata: two \xc3\xa4\n\nid: 7\ndata: \n\ndata: cut off"
)
EVENTS = [
    ServerSentEvent("4", ""),
    ServerSentEvent("5", '{"a":1}'),
    ServerSentEvent("5", "one\ntwo ä"),
    ServerSentEvent("7", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_parsed_from_chunks_of_any_size_and_any_line_end(size: int, end: bytes) -> None:
    parser, stream = EventParser(), STREAM.replace(b"\n", end)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS


def test_an_incomplete_event_is_not_returned() -> None:
    assert EventParser().feed(b"id: 1\ndata: x\n") == []


def test_an_id_with_a_nul_is_ignored() -> None:
    assert EventParser().feed(b"id: 1\n\nid: 2\0\ndata: x\n\n") == [("1", ""), ("1", "x")]


@pytest.mark.parametrize("part", [b"x", b"data: x\n", b"data\r", b": comment\r\n"])
def test_an_event_and_a_line_are_bounded(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "MAX_EVENT", 1000)
    parser = EventParser()
    for _ in range(1000 // len(part)):
        assert parser.feed(part) == []
    with pytest.raises(EventTooLarge):
        parser.feed(part)


def test_any_number_of_events_within_the_bound_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "MAX_EVENT", 100)
    parser, event = EventParser(), b"id: 1\ndata: " + b"x" * 80 + b"\n\n"
    expected = ServerSentEvent("1", "x" * 80)
    assert parser.feed(event * 50) == [expected] * 50
    for _ in range(50):
        assert parser.feed(b":\n\n" + event[:40]) == []
        assert parser.feed(event[40:]) == [expected]


def test_a_line_in_many_parts_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[int] = []

    class Counted:
        @staticmethod
        def split(text: bytes) -> list[bytes]:
            joined.append(len(text))
            return text.split(b"\n")

    monkeypatch.setattr(server_sent_events, "_LINE_END", Counted)
    parser = EventParser()
    for _ in range(1000):
        assert parser.feed(b"data: x"[:1]) == []
    assert parser.feed(b"\n") == []
    assert joined == [1001]
