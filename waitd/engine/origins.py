"""Due waits queue by origin, and origins take turns: a slow one delays only its own waits.

An origin starts with one poke at a time, and its limit doubles with each answer. Three timeouts in
a row bring the limit down to one. Origins that have not answered, new ones and those brought down,
share half of `poke_concurrency`, however many they are. The namespaces whose waits are queued at an
origin share its pokes by their weights.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import frexp, inf

from waitd.core.fair_shares import FairShares, Weight, equal_weight
from waitd.core.recovery import Pace
from waitd.engine.held_wait import HeldWait

#: How many pokes at a time an origin gets before its first answer.
INITIAL_LIMIT = 1
#: How many timeouts in a row bring an origin's limit down to one.
MAX_TIMEOUTS = 3
#: By how many queued groups the rate of an origin's whole queue is estimated.
SAMPLED_GROUPS = 100
#: How many origins are remembered while nothing is queued at them.
REMEMBERED = 10_000


#: The queued groups of one namespace with intervals of one magnitude, by their keys.
_Flow = tuple[str, int]


class FairQueue:
    """The waits queued at one origin, grouped by coalescing key.

    Namespaces get their shares of the pokes. Of a namespace, the most overdue group is next. How
    overdue a wait is, is measured by its own `poke_interval`: when more is due than can be poked,
    every wait is late by the same share of its interval. Groups whose intervals are of the same
    magnitude (powers of two) are in one queue in the order of their arrival, and only the heads of
    the queues are compared.
    """

    __slots__ = ("_queues", "_shares", "_weight", "groups")

    def __init__(self, weight: Weight = equal_weight) -> None:
        """`weight`: that of a namespace."""
        #: The queued waits by coalescing key; a list only where there are several. Read-only for
        #: others.
        self.groups: dict[str, HeldWait | list[HeldWait]] = {}
        self._queues: defaultdict[_Flow, deque[str]] = defaultdict(deque)
        self._weight = weight
        self._shares: FairShares | None = None

    def append(self, held: HeldWait) -> None:
        """Queues a wait, in the group of its coalescing key."""
        key = held.target.key or held.id  # waits with equal keys that are queued together share a poke
        group = self.groups.get(key)
        if group is not None:
            if isinstance(group, HeldWait):
                self.groups[key] = [group, held]
            else:
                group.append(held)
            return
        self.groups[key] = held
        self._queues[held.kind.namespace, frexp(held.pacing.poke_interval)[1]].append(key)

    def pop(self, now: float) -> list[HeldWait]:
        """Removes and returns the next group; there must be one. `now` is monotonic seconds."""
        if len(self._queues) == 1:
            [flow] = self._queues
        else:
            flow = self._next_flow(now)
        queue = self._queues[flow]
        key = queue.popleft()
        if not queue:
            del self._queues[flow]
        group = self.groups.pop(key)
        return [group] if isinstance(group, HeldWait) else group

    def _next_flow(self, now: float) -> _Flow:
        flows = list(self._queues)
        namespaces = dict.fromkeys(namespace for namespace, _ in flows)
        if len(namespaces) > 1:
            shares = self._shares = self._shares or FairShares(self._weight)
            namespace = shares.next(namespaces)
            shares.charge(namespace)
            flows = [flow for flow in flows if flow[0] == namespace]
        return max(flows, key=lambda flow: self._overdue(flow, now))

    def rate(self) -> float:
        """How many pokes a second the queued waits amount to, by their intervals."""
        sample = list(islice(self.groups.values(), SAMPLED_GROUPS))
        rates = [
            1 / (group if isinstance(group, HeldWait) else group[0]).pacing.poke_interval for group in sample
        ]
        return sum(rates) * len(self.groups) / len(rates) if rates else 0.0

    def _overdue(self, flow: _Flow, now: float) -> float:
        group = self.groups[self._queues[flow][0]]
        first = group if isinstance(group, HeldWait) else group[0]
        return (now - first.due) / first.pacing.poke_interval


@dataclass(slots=True, eq=False)
class OriginQueue:
    """The queue of one origin.

    Attributes:
        name: the origin as `Probe.origin` names it.
        limit: how many pokes it gets at a time.
        running: how many are in progress.
        proven: whether it has answered since its limit was last brought down.
        timeouts: how many timeouts came in a row.
        held_down: whether timeouts brought its limit down.
        is_ready: whether it is among the origins that have a turn.
        pace: limits its pokes after a fault.
        queue: its due waits.
    """

    name: str
    limit: float
    proven: bool = False
    running: int = 0
    timeouts: int = 0
    held_down: bool = False
    is_ready: bool = False
    pace: Pace = field(default_factory=Pace)
    queue: FairQueue = field(default_factory=FairQueue)


class Origins:
    """All origins, and the order in which they take turns.

    Attributes:
        queued: how many waits are queued.
        limited: how many origins are held down.
    """

    def __init__(self, *, poke_concurrency: int, per_origin: int, weight: Weight = equal_weight) -> None:
        """`weight`: that of a namespace among those that share an origin."""
        self._per_origin = per_origin
        self._weight = weight
        self._max_unproven = max(1, poke_concurrency // 2)
        self._unproven_running = 0
        self._origins: dict[str, OriginQueue] = {}
        self._ready: deque[OriginQueue] = deque()
        #: Unproven origins whose turn came while as many pokes ran at unproven ones as may.
        self._held_back: deque[OriginQueue] = deque()
        #: Origins that have waits and may run a poke, and whose pace lets none start yet.
        self._paced: list[OriginQueue] = []
        #: The final pokes, at the deadlines.
        self._final = OriginQueue("", inf, proven=True)
        self.queued = 0
        self.limited = 0

    def get(self, name: str) -> OriginQueue:
        """The origin of that name, or a new one that is not remembered yet."""
        limit = min(INITIAL_LIMIT, self._per_origin)
        return self._origins.get(name) or OriginQueue(name, limit, queue=FairQueue(self._weight))

    def full(self, origin: OriginQueue) -> str | None:
        """Why no poke may start at an origin, as in `WaitingOn.held_up_by`; None if one may."""
        if origin.running >= origin.limit:
            return "origin_limit"
        if not origin.proven and self._unproven_running >= self._max_unproven:
            return "unproven_origins"
        return "origin_pace" if origin.pace.limited else None

    def add(self, held: HeldWait, name: str) -> None:
        """Queues a wait at its origin."""
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = self.get(name)
        held.queued = True
        self.queued += 1
        origin.queue.append(held)
        if not origin.is_ready and origin.running < origin.limit:
            self._make_ready(origin)

    def add_final(self, held: HeldWait) -> None:
        """Queues the final poke of a wait: it precedes all others, ignoring its origin's limit."""
        self.forget(held)
        held.final = True
        self.queued += 1
        self._final.queue.append(held)

    def forget(self, held: HeldWait) -> None:
        """Makes the queue of an origin skip a wait, which stays in it."""
        if held.queued:
            held.queued = False
            self.queued -= 1

    @property
    def paced(self) -> bool:
        """Whether an origin has waits that its pace holds back; call `release` regularly."""
        return bool(self._paced)

    def release(self, monotonic: float) -> None:
        """Gives the origins a turn whose pace lets a poke start."""
        paced, self._paced = self._paced, []
        for origin in paced:
            origin.pace.on_backlog(len(origin.queue.groups), origin.queue.rate())
            if origin.pace.next_start(monotonic) > monotonic:
                self._paced.append(origin)
            else:
                self._ready.append(origin)

    def take(
        self, now: float, monotonic: float, *, final_only: bool = False
    ) -> tuple[OriginQueue, Sequence[HeldWait]] | None:
        """Takes the next group to poke, which now runs at its origin; None if none may be poked.

        `now` and `monotonic` are the same moment on both clocks. A wait whose deadline has passed
        by `now` is queued for its final poke instead. With `final_only`, only final pokes are
        taken.
        """
        while True:
            if self._final.queue.groups:
                if group := self._pop(self._final, now, monotonic):
                    return self._final, group
                continue
            if final_only or not self._ready:
                return None
            origin = self._ready.popleft()
            if not origin.proven and self._unproven_running >= self._max_unproven:
                self._held_back.append(origin)
                continue
            pace = origin.pace
            if pace.limited and pace.next_start(monotonic) > monotonic:
                self._paced.append(origin)
                continue
            origin.is_ready = False
            group = self._pop(origin, now, monotonic)
            if group:
                if monotonic < pace.window_ends:
                    pace.count += 1
                else:
                    pace.on_start(monotonic)
                origin.running += 1
                self._unproven_running += not origin.proven
            self._make_ready(origin)
            if group:
                return origin, group

    def _pop(self, origin: OriginQueue, now: float, monotonic: float) -> list[HeldWait]:
        group = origin.queue.pop(monotonic)
        if origin is self._final:
            self.queued -= len(group)
            return [held for held in group if not held.ended]
        taken = []
        for held in group:
            if held.queued and held.deadline <= now:
                self.add_final(held)
            elif held.queued:
                held.queued = False
                taken.append(held)
        self.queued -= len(taken)
        return taken

    def _make_ready(self, origin: OriginQueue) -> None:
        """Gives an origin a turn, if it has waits and may run one more poke."""
        if not origin.is_ready and origin.queue.groups and origin.running < origin.limit:
            origin.is_ready = True
            self._ready.append(origin)

    def done(
        self, origin: OriginQueue, monotonic: float, *, timed_out: bool = False, failed: bool = False
    ) -> None:
        """Ends a poke at an origin and adapts the origin's limit and pace.

        Args:
            origin: the origin that was poked.
            monotonic: the time, monotonic seconds.
            timed_out: whether there was no complete answer in time.
            failed: whether it was unreachable, as also after a timeout.
        """
        if origin is self._final:
            return
        if failed:
            origin.pace.on_failure(monotonic)
        elif origin.pace.failures:
            origin.pace.on_answer(monotonic)
        origin.running -= 1
        self._unproven_running -= not origin.proven
        if timed_out:
            origin.timeouts += 1
            if origin.timeouts == MAX_TIMEOUTS:
                self._hold_down(origin)
        elif origin.limit < self._per_origin or origin.timeouts or not origin.proven:
            self._raise_limit(origin)
        while self._held_back and self._unproven_running < self._max_unproven:
            self._ready.append(self._held_back.popleft())
        if origin.queue.groups:
            self._make_ready(origin)
        elif origin.pace.limited or len(self._origins) > REMEMBERED:
            self._on_drained(origin, monotonic)

    def _on_drained(self, origin: OriginQueue, monotonic: float) -> None:
        origin.pace.on_drained(monotonic)
        busy = origin.running or origin.held_down or origin.pace.limited or origin.pace.failing
        if len(self._origins) > REMEMBERED and not busy:
            del self._origins[origin.name]

    def _hold_down(self, origin: OriginQueue) -> None:
        origin.held_down = True
        origin.limit = 1
        self.limited += 1
        self._set_proven(origin, proven=False)

    def _raise_limit(self, origin: OriginQueue) -> None:
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
