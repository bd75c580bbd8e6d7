"""Pokes a wait early because there is news about it: a signal, or an S3 event."""

from collections.abc import Callable, Mapping

from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait

#: A poke for news comes at least this many seconds after the wait's last verdict; all news until
#: then shares that poke.
NEWS_PAUSE_SECONDS = 0.2


class NewsPokes:
    """Schedules the pokes for news.

    Attributes:
        during_poke: the waits for which news came during their poke.
    """

    def __init__(
        self, held: Mapping[str, HeldWait], clock: Clock, *, schedule: Callable[[HeldWait, float], None]
    ) -> None:
        """`held`: the held waits by id; `schedule` makes one due, monotonic seconds."""
        self._held = held
        self._clock = clock
        self._schedule = schedule
        self.during_poke: set[str] = set()

    def poke_soon(self, wait_id: str) -> None:
        """Pokes a wait for news: now, after the poke in progress, or after `NEWS_PAUSE_SECONDS`."""
        held = self._held.get(wait_id)
        if held is None or held.ended:
            return
        if held.in_flight:
            self.during_poke.add(held.id)
        elif held.idle:
            runs = held.progress.runs
            pause = max(0.0, runs[-1].last_at + NEWS_PAUSE_SECONDS - self._clock.now()) if runs else 0.0
            due = self._clock.monotonic() + min(pause, NEWS_PAUSE_SECONDS)
            if due < held.due:
                self._schedule(held, due)

    def on_scheduled(self, held: HeldWait) -> None:
        """Pokes a wait soon that is back in the calendar, if news came during its poke."""
        if held.id in self.during_poke:
            self.during_poke.discard(held.id)
            self.poke_soon(held.id)
