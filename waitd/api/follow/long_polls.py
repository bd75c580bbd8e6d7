"""Who waits for which wait to end: the registry behind `GET /v1/waits/{id}?wait=30`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from waitd.api.problems import refusal


class Watch:
    """One caller's look-out for the end of one wait."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self._ended = ended

    async def ended(self, seconds: float) -> bool:
        """Waits for the end, a drain or `seconds`, whichever is first; False where the seconds were over."""
        done, _ = await asyncio.wait((self._ended,), timeout=seconds)
        return bool(done)


class LongPolls:
    """The long-polls in hand, bounded in number. Lives in the event loop; not for threads."""

    def __init__(self, max_long_polls: int) -> None:
        self._limit = max_long_polls
        self._open = 0
        self._draining = False
        self._watched: dict[str, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def watch(self, wait_id: str) -> Iterator[Watch]:
        """A look-out that begins now: an end that is announced from here on is not missed, so read the wait's state inside.

        Raises:
            ProblemError: 429, there are too many already.
        """
        if self._open >= self._limit:
            raise refusal(
                "too-many-long-polls",
                f"{self._limit} long-polls are open; ask again without `wait`, or later",
            )
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._draining:
            ended.set_result(None)
        watchers = self._watched.setdefault(wait_id, set())
        watchers.add(ended)
        self._open += 1
        try:
            yield Watch(ended)
        finally:
            self._open -= 1
            watchers.discard(ended)
            if not watchers and self._watched.get(wait_id) is watchers:
                del self._watched[wait_id]

    async def wait_for(self, wait_id: str, seconds: float) -> bool:
        """`watch` and `ended` in one, for a caller who need not read the state in between; raises as `watch` does."""
        with self.watch(wait_id) as watch:
            return await watch.ended(seconds)

    def announce(self, wait_id: str) -> None:
        """The wait's end is on disk: whoever waits for it goes on. Costs a dictionary look-up where nobody does."""
        for ended in self._watched.pop(wait_id, ()):
            if not ended.done():
                ended.set_result(None)

    def drain(self) -> None:
        """Everybody goes on now, and nobody waits from here on."""
        self._draining = True
        for wait_id in list(self._watched):
            self.announce(wait_id)
