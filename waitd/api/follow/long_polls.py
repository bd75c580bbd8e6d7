"""The long-polls of `GET /v1/waits/{id}?wait=30`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from waitd.api.problems import refusal


class OutcomeWatch:
    """Waits for the outcome of one wait, for one caller."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self._ended = ended

    async def ended(self, seconds: float) -> bool:
        """Waits for the outcome or a drain; False if `seconds` pass first."""
        done, _ = await asyncio.wait((self._ended,), timeout=seconds)
        return bool(done)


class LongPolls:
    """The open long-polls, bounded in number. Not thread-safe."""

    def __init__(self, max_long_polls: int) -> None:
        self._limit = max_long_polls
        self._open = 0
        self._draining = False
        self._watched: dict[str, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def watch(self, wait_id: str) -> Iterator[OutcomeWatch]:
        """Watches a wait while the block runs.

        Read the state of the wait inside the block, so that no outcome is missed.

        Raises:
            ProblemError: 429, there are too many long-polls.
        """
        if self._open >= self._limit:
            raise refusal(
                "too-many-long-polls",
                f"{self._limit} long-polls are open; send it again later, or without `wait`",
            )
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._draining:
            ended.set_result(None)
        watchers = self._watched.setdefault(wait_id, set())
        watchers.add(ended)
        self._open += 1
        try:
            yield OutcomeWatch(ended)
        finally:
            self._open -= 1
            watchers.discard(ended)
            if not watchers and self._watched.get(wait_id) is watchers:
                del self._watched[wait_id]

    def notify(self, wait_id: str) -> None:
        """Wakes the callers that watch this wait: its outcome is stored."""
        for ended in self._watched.pop(wait_id, ()):
            if not ended.done():
                ended.set_result(None)

    def drain(self) -> None:
        """Wakes every caller now, and lets none wait from here on."""
        self._draining = True
        for wait_id in list(self._watched):
            self.notify(wait_id)
