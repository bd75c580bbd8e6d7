"""The readers of `GET /v1/events`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

#: A reader that is this many outcomes behind is disconnected; it can resume at its own pace.
MAX_BEHIND = 1000
#: How often a quiet stream gets a comment, and how long a reader may leave data unread, in seconds.
HEARTBEAT_SECONDS = 15.0


class EventReader:
    """One reader.

    Attributes:
        position: the number of the last outcome that was sent.
        caught_up: whether it has caught up; from then on it must keep up.
        news: set when there may be more to send, and on a drain.
        sending: the scope of a write in progress, cancelled if the reader falls behind.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.caught_up = False
        self.news = asyncio.Event()
        self.sending: anyio.CancelScope | None = None

    def is_behind(self, last: int) -> bool:
        """Whether it fails to keep up, given the number of the last outcome."""
        return self.caught_up and last - self.position > MAX_BEHIND


class EventFeed:
    """The readers. Not thread-safe."""

    def __init__(self, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._readers: set[EventReader] = set()
        self.heartbeat = heartbeat
        self.draining = False

    def __len__(self) -> int:
        return len(self._readers)

    @contextmanager
    def reader(self, position: int) -> Iterator[EventReader]:
        """Registers a reader while the block runs; it misses no outcome from here on."""
        reader = EventReader(position)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def notify(self, last: int) -> None:
        """Wakes the readers: the outcomes up to number `last` are stored."""
        for reader in self._readers:
            reader.news.set()
            if reader.sending is not None and reader.is_behind(last):
                reader.sending.cancel()

    def drain(self) -> None:
        """Ends every stream now."""
        self.draining = True
        for reader in self._readers:
            reader.news.set()
            if reader.sending is not None:
                reader.sending.cancel()
