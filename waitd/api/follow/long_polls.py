"""The long-polls of `GET /v1/waits/{id}?wait=30`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class LongPolls:
    """The open long-polls. Not thread-safe."""

    def __init__(self) -> None:
        self._open = 0
        self._draining = False
        #: By wait id. An entry lasts as long as a caller waits for its event.
        self._watched: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def watch(self, wait_id: str) -> Iterator[asyncio.Event]:
        """Watches a wait while the block runs; the event is set by its outcome or a drain.

        Read the state of the wait inside the block, so that no outcome is missed.
        """
        ended = self._watched.setdefault(wait_id, asyncio.Event())
        if self._draining:
            ended.set()
        self._open += 1
        try:
            yield ended
        finally:
            self._open -= 1

    def notify(self, wait_id: str) -> None:
        """Wakes the callers that watch this wait: its outcome is stored."""
        # Most outcomes are not watched, and a look-up in a weak dictionary takes a microsecond.
        if self._open and (ended := self._watched.get(wait_id)):
            ended.set()

    def drain(self) -> None:
        """Wakes every caller now, and lets none wait from here on."""
        self._draining = True
        for ended in list(self._watched.values()):
            ended.set()
