"""What is queued at one origin, and whose turn it is there."""

from collections import deque
from math import frexp

from waitd.engine.held_wait import HeldWait


class FairQueue:
    """Groups of entries by coalescing key: what is most overdue, measured by its own `poke_interval`, is next.

    So when more is due than can be poked, everybody's lateness grows by the same share of their interval. Entries whose intervals are of
    the same magnitude (powers of two) stand in one lane in the order in which they came; only the lanes' heads are compared.
    """

    __slots__ = ("_lanes", "groups")

    def __init__(self) -> None:
        #: Who is queued, by coalescing key; a list only where they are several. To be read only.
        self.groups: dict[str, HeldWait | list[HeldWait]] = {}
        self._lanes: dict[int, deque[str]] = {}

    def append(self, entry: HeldWait) -> None:
        """Queues an entry, with those of equal key that are queued already."""
        key = entry.target.key or entry.id  # those with equal keys that are queued together share one look
        there = self.groups.get(key)
        if there is not None:
            if isinstance(there, HeldWait):
                self.groups[key] = [there, entry]
            else:
                there.append(entry)
            return
        self.groups[key] = entry
        magnitude = frexp(entry.pacing.poke_interval)[1]
        lane = self._lanes.get(magnitude)
        if lane is None:
            lane = self._lanes[magnitude] = deque()
        lane.append(key)

    def pop(self, now: float) -> list[HeldWait]:
        """The next group. `now`: monotonic seconds. Raises IndexError where nothing is queued."""
        if len(self._lanes) == 1:
            [magnitude] = self._lanes
        elif self._lanes:
            magnitude = max(self._lanes, key=lambda magnitude: self._overdue(magnitude, now))
        else:
            raise IndexError("nothing is queued")
        lane = self._lanes[magnitude]
        key = lane.popleft()
        if not lane:
            del self._lanes[magnitude]
        group = self.groups.pop(key)
        return [group] if isinstance(group, HeldWait) else group

    def _overdue(self, magnitude: int, now: float) -> float:
        group = self.groups[self._lanes[magnitude][0]]
        first = group if isinstance(group, HeldWait) else group[0]
        return (now - first.due) / first.pacing.poke_interval
