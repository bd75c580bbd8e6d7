"""Whose turn it is: due waits queue by origin, and origins take turns, so that a bad one hurts only itself.

An origin starts with one poke at a time and doubles with each answer up to its limit; three timeouts in a row bring it down to one.
Origins that have not answered (new ones, and those brought down) may together hold no more than half of all places, however many
they are.
"""

from collections import deque
from collections.abc import Sequence

from waitd.engine.held_wait import HeldWait
from waitd.engine.line import FairQueue

#: How many pokes at once an origin gets before its first answer.
FIRST_LIMIT = 1
#: How many timeouts in a row bring an origin's limit down to one.
TIMEOUTS = 3
#: How many origins are remembered while nothing is queued at them.
REMEMBERED = 10_000


class OriginQueue:
    """One queue, and how much of it may be poked at once."""

    __slots__ = ("held_down", "limit", "listed", "name", "proven", "queue", "running", "timeouts")

    def __init__(self, name: str, limit: float, *, proven: bool = False) -> None:
        self.name = name
        self.limit = limit
        self.proven = proven
        self.running = 0
        self.timeouts = 0
        self.held_down = False
        self.listed = False
        self.queue = FairQueue()


class Origins:
    """All queues, and the order in which they are served."""

    def __init__(self, *, places: int, per_origin: int) -> None:
        self._per_origin = per_origin
        self._unproven_places = max(1, places // 2)
        self._unproven_running = 0
        self._origins: dict[str, OriginQueue] = {}
        self._ready: deque[OriginQueue] = deque()
        self._held_back: deque[OriginQueue] = deque()
        self._last = OriginQueue("", float("inf"), proven=True)
        self.queued = 0
        self.limited = 0

    def get(self, name: str) -> OriginQueue:
        """The origin of that name; a new one where nothing was queued there of late."""
        return self._origins.get(name) or OriginQueue(name, min(FIRST_LIMIT, self._per_origin))

    def full(self, origin: OriginQueue) -> str | None:
        """Why nothing more may start at an origin, in the words of `WaitingOn.held_up_by`; None where something may."""
        if origin.running >= origin.limit:
            return "origin_limit"
        if not origin.proven and self._unproven_running >= self._unproven_places:
            return "unproven_origins"
        return None

    def add(self, entry: HeldWait, name: str) -> None:
        """Queues an entry at its origin."""
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = self.get(name)
        entry.queued = True
        self.queued += 1
        origin.queue.append(entry)
        if not origin.listed and origin.running < origin.limit:
            self._list(origin)

    def add_last(self, entry: HeldWait) -> None:
        """Queues the poke at the deadline: served before all others, at once, whatever its origin is doing."""
        if entry.queued:  # it still stands in its origin's queue, and is passed over there
            entry.queued = False
            self.queued -= 1
        entry.last = True
        self.queued += 1
        self._last.queue.append(entry)

    def forget(self, entry: HeldWait) -> None:
        """The entry ended while it was queued: it is passed over."""
        if entry.queued:
            entry.queued = False
            self.queued -= 1

    def take(
        self, now: float, monotonic: float, *, last_only: bool = False
    ) -> tuple[OriginQueue, Sequence[HeldWait]] | None:
        """The next group to poke, its place at the origin taken; None while every queue is empty or full.

        `now` is Unix seconds: a wait whose deadline has come by then gets the poke at its deadline instead. `monotonic` is the same
        moment on that clock.
        """
        while True:
            if self._last.queue.groups:
                origin = self._last
            elif self._ready and not last_only:
                origin = self._ready.popleft()
                if not origin.proven and self._unproven_running >= self._unproven_places:
                    self._held_back.append(origin)
                    continue
                origin.listed = False
            else:
                return None
            group = self._pop(origin, now, monotonic)
            if group and origin is not self._last:
                origin.running += 1
                self._unproven_running += not origin.proven
            self._list(origin)
            if group:
                return origin, group

    def _pop(self, origin: OriginQueue, now: float, monotonic: float) -> list[HeldWait]:
        group = origin.queue.pop(monotonic)
        if origin is self._last:
            self.queued -= len(group)
            return [entry for entry in group if not entry.ended]
        taken = []
        for entry in group:
            if entry.queued and entry.deadline <= now:
                self.add_last(entry)
            elif entry.queued:
                entry.queued = False
                taken.append(entry)
        self.queued -= len(taken)
        return taken

    def _list(self, origin: OriginQueue) -> None:
        if (
            not origin.listed
            and origin.queue.groups
            and origin.running < origin.limit
            and origin is not self._last
        ):
            origin.listed = True
            self._ready.append(origin)

    def done(self, origin: OriginQueue, *, timed_out: bool) -> None:
        """A poke is over: its place is free, and the origin's limit learns from it."""
        if origin is self._last:
            return
        origin.running -= 1
        if not origin.proven:
            self._unproven_running -= 1
        if timed_out:
            origin.timeouts += 1
            if origin.timeouts == TIMEOUTS:
                self._hold_down(origin)
        elif origin.limit < self._per_origin or origin.timeouts or not origin.proven:
            self._let_grow(origin)
        while self._held_back and self._unproven_running < self._unproven_places:
            self._ready.append(self._held_back.popleft())
        if origin.queue.groups:
            self._list(origin)
        elif len(self._origins) > REMEMBERED and not origin.running and not origin.held_down:
            del self._origins[origin.name]

    def _hold_down(self, origin: OriginQueue) -> None:
        origin.held_down = True
        origin.limit = 1
        self.limited += 1
        self._set_proven(origin, proven=False)

    def _let_grow(self, origin: OriginQueue) -> None:
        origin.timeouts = 0
        origin.limit = min(origin.limit * 2, self._per_origin)
        if origin.held_down:
            origin.held_down = False
            self.limited -= 1
        self._set_proven(origin, proven=True)

    def _set_proven(self, origin: OriginQueue, *, proven: bool) -> None:
        if origin.proven is not proven:
            origin.proven = proven
            self._unproven_running += -origin.running if proven else origin.running
