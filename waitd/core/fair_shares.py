"""Divides what is scarce between flows, such as namespaces, in proportion to their weights.

That is start-time fair queueing: Goyal, Vin and Cheng, "Start-time Fair Queueing: A Scheduling
Algorithm for Integrated Services Packet Switching Networks", SIGCOMM 1996. While two flows both
have demand, what they get differs from their shares by one item of each at most.
"""

from collections import deque
from collections.abc import Callable, Iterable, KeysView
from heapq import heappop, heappush, heapreplace
from typing import Generic, TypeVar

#: How many flows are remembered, at least, before those are dropped that have nothing to make up
#: for: it is done when there are twice as many as were left the last time.
REMEMBERED = 64

#: The weight of a flow: one with twice the weight gets twice as much.
Weight = Callable[[str], float]
Item = TypeVar("Item")


def equal_weight(flow: str) -> float:  # noqa: ARG001 - a `Weight`
    """Weighs all flows alike."""
    return 1.0


class FairShares:
    """Decides whose turn it is.

    The virtual time is the start of the item served last. A flow's next item starts where its last
    one ended, or now if the flow had no demand then: a pause saves nothing up.
    """

    __slots__ = ("_next_start", "_now", "_remembered", "_weight")

    def __init__(self, weight: Weight = equal_weight) -> None:
        self._weight = weight
        self._now = 0.0
        self._next_start: dict[str, float] = {}
        self._remembered = REMEMBERED

    def start(self, flow: str) -> float:
        """Returns the virtual time at which the next item of a flow starts that has demand now."""
        return max(self._now, self._next_start.get(flow, 0.0))

    def next(self, flows: Iterable[str]) -> str:
        """Returns which of the flows with demand is next; the first of those that are equal."""
        now, get = self._now, self._next_start.get
        return min(flows, key=lambda flow: max(now, get(flow, now)))

    def charge(self, flow: str, cost: float = 1.0) -> None:
        """Counts an item that the flow gets."""
        self._now = max(self._now, self._next_start.get(flow, 0.0))
        self._next_start[flow] = self._now + cost / self._weight(flow)
        if len(self._next_start) > self._remembered:
            self._next_start = {name: start for name, start in self._next_start.items() if start > self._now}
            self._remembered = max(REMEMBERED, 2 * len(self._next_start))


class FairBacklog(Generic[Item]):
    """Queued items of many flows. Within a flow, the first is served first.

    No one else charges the `shares`. So a flow keeps its start until it is served, and the flows
    are in a heap.
    """

    __slots__ = ("_heap", "_number", "_queues", "_shares")

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._queues: dict[str, deque[Item]] = {}
        #: Each flow with its start; of those that are equal, the first that was put there is next.
        self._heap: list[tuple[float, int, str]] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def flows(self) -> KeysView[str]:
        """The flows that have items queued."""
        return self._queues.keys()

    def count(self, flow: str) -> int:
        """How many items of a flow are queued."""
        return len(self._queues.get(flow, ()))

    def append(self, flow: str, item: Item) -> None:
        """Queues an item."""
        queue = self._queues.get(flow)
        if queue is None:
            queue = self._queues[flow] = deque()
            heappush(self._heap, self._entry(flow))
        queue.append(item)

    def clear(self) -> list[tuple[str, Item]]:
        """Removes and returns everything, each item with its flow."""
        items = [(flow, item) for flow, queue in self._queues.items() for item in queue]
        self._queues.clear()
        self._heap.clear()
        return items

    def peek(self) -> Item:
        """Returns the next item; there must be one."""
        return self._queues[self._heap[0][2]][0]

    def pop(self, cost: float = 1.0) -> Item:
        """Removes and returns the next item, as one that costs so much; there must be one."""
        flow = self._heap[0][2]
        queue = self._queues[flow]
        item = queue.popleft()
        alone = len(self._queues) == 1
        if not alone:
            self._shares.charge(flow, cost)
        if not queue:
            del self._queues[flow]
            heappop(self._heap)
        elif not alone:
            heapreplace(self._heap, self._entry(flow))
        return item

    def _entry(self, flow: str) -> tuple[float, int, str]:
        self._number += 1
        return self._shares.start(flow), self._number, flow
