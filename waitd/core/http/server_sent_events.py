"""Parses Server-Sent Events (WHATWG HTML, section 9.2): bytes go in, complete events come out."""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


#: The largest event with its field names, in bytes; that of an outcome is far smaller.
MAX_EVENT = 1024 * 1024


class EventTooLarge(ValueError):  # noqa: N818 - reads as a sentence
    """An event, or a line of one, is larger than `MAX_EVENT`."""


class ServerSentEvent(NamedTuple):
    """One event.

    Attributes:
        id: the last event id of the stream so far, with which a reader resumes; None if none came.
        data: the `data` lines, joined by newlines; "" for an event that has only an id.
    """

    id: str | None
    data: str


class EventParser:
    """Parses one stream from its start. Comments, event types and retry times are ignored."""

    def __init__(self) -> None:
        #: The parts of a line whose end has not arrived, and how many bytes belong to no event yet.
        self._line: list[bytes] = []
        self._size = 0
        self._id: str | None = None
        self._has_id = False
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes, those that have only an id included.

        Raises:
            EventTooLarge: an event, or a line of one, exceeds `MAX_EVENT`.
        """
        # A line that arrives in many parts is joined once.
        ends_line = b"\n" in chunk or b"\r" in chunk or self._line[-1:] == [b"\r"]
        self._line.append(chunk)
        self._size += len(chunk)
        events = self._take_lines() if ends_line else []
        if self._size > MAX_EVENT:
            raise EventTooLarge(f"an event has more than {MAX_EVENT} bytes")
        return events

    def _take_lines(self) -> list[ServerSentEvent]:
        *lines, rest = _LINE_END.split(b"".join(self._line))
        # A return at the end may be the first half of a line end.
        self._line = [rest[:-1], b"\r"] if rest.endswith(b"\r") else [rest]
        events = []
        for line in lines:
            if line:
                self._parse_line(line.decode("utf-8", "replace"))
                continue
            self._size = len(rest)
            if self._data or self._has_id:
                events.append(ServerSentEvent(self._id, "\n".join(self._data)))
                self._data, self._has_id = [], False
        return events

    def _parse_line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id, self._has_id = value, True
