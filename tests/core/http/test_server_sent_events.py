"""How a stream of Server-Sent Events is parsed."""

import pytest

from waitd.core.http.server_sent_events import EventParser, ServerSentEvent

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
