"""Parses Server-Sent Events (WHATWG HTML, section 9.2): bytes go in, complete events come out."""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


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
        self._rest = b""
        self._id: str | None = None
        self._has_id = False
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes, those that have only an id included."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        events = []
        for line in lines:
            if line:
                self._parse_line(line.decode("utf-8", "replace"))
            elif self._data or self._has_id:
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
