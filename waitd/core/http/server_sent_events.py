"""Server-Sent Events (the WHATWG's `text/event-stream`), read: bytes in, as they arrive; events out, as they are whole."""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class ServerSentEvent(NamedTuple):
    """One event.

    Attributes:
        id: the last id that the stream named, its own or an earlier event's: where to resume.
        data: what it says; "" for one that only names an id.
    """

    id: str | None
    data: str


class EventParser:
    """Reads one stream from its beginning. Comments, types and retry times are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._named = False
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that end in `chunk`; one that only names an id counts, too."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        events = []
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
            elif self._data or self._named:
                events.append(ServerSentEvent(self._id, "\n".join(self._data)))
                self._data, self._named = [], False
        return events

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id, self._named = value, True
