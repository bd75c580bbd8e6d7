"""Who follows the outcomes: the registry behind `GET /v1/events`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from waitd.api.problems import refusal

#: How many may follow at the same time.
MAX_READERS = 100
#: A reader this many outcomes behind is closed; it resumes from where it was, at its own pace.
MAX_BEHIND = 1000
#: How long a reader hears nothing, and how long it may leave what was sent unread, in seconds.
HEARTBEAT = 15.0


class Reader:
    """One who follows. `position` is the number of the last outcome that was sent.

    Attributes:
        live: it has had everything once; from then on it has to keep up.
        news: set when there may be more to send, and on a drain.
        sending: the scope of a write in progress, to be cut short when the reader falls behind.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.live = False
        self.news = asyncio.Event()
        self.sending: anyio.CancelScope | None = None

    def is_behind(self, last: int) -> bool:
        """Whether it has not kept up with the outcomes, the last of which has the number `last`."""
        return self.live and last - self.position > MAX_BEHIND


class EventFeed:
    """The readers, bounded in number. Lives in the event loop; not for threads."""

    def __init__(self, max_readers: int = MAX_READERS, heartbeat: float = HEARTBEAT) -> None:
        self._limit = max_readers
        self._readers: set[Reader] = set()
        self.heartbeat = heartbeat
        self.draining = False

    def __len__(self) -> int:
        return len(self._readers)

    @contextmanager
    def reader(self, position: int) -> Iterator[Reader]:
        """One more reader, for as long as the block lasts: outcomes that are announced from here on are not missed.

        Raises:
            ProblemError: 429, there are too many already.
        """
        if len(self._readers) >= self._limit:
            raise refusal("too-many-readers", f"{self._limit} readers follow already; come back later")
        reader = Reader(position)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def announce(self, last: int) -> None:
        """Outcomes up to the one numbered `last` are on disk. Costs next to nothing where nobody follows."""
        for reader in self._readers:
            reader.news.set()
            if reader.sending is not None and reader.is_behind(last):
                reader.sending.cancel()

    def drain(self) -> None:
        """Everybody's stream ends now."""
        self.draining = True
        for reader in self._readers:
            reader.news.set()
            if reader.sending is not None:
                reader.sending.cancel()
