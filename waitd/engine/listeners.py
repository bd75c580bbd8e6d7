"""Who listens to what: from news (a signal's key, a key of a bucket) to the waits that it wakes, without a look at any other wait.

Exact names are found in a dictionary. Patterns stand by what every name that they take begins with: news is held against the beginnings
of its own name only, and against the patterns that stand there.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from waitd.engine.held_wait import HeldWait
from waitd.ports import StoredWait, Topic

#: The place of signals.
SIGNAL = "signal"

Matches = Callable[[str], bool]


class _Place:
    """The listeners of one namespace at one place."""

    __slots__ = ("exact", "lengths", "patterns")

    def __init__(self) -> None:
        #: By name: a wait's id, or those of several. Most names have one listener, and a set for each would cost as much as a wait.
        self.exact: dict[str, str | set[str]] = {}
        #: By beginning, each wait with what it takes.
        self.patterns: dict[str, dict[str, Matches]] = {}
        #: How many beginnings there are of each length.
        self.lengths: Counter[int] = Counter()

    def add(self, topic: Topic, wait_id: str) -> None:
        if topic.matches is None:
            held = self.exact.setdefault(topic.name, wait_id)
            if isinstance(held, set):
                held.add(wait_id)
            elif held != wait_id:
                self.exact[topic.name] = {held, wait_id}
            return
        if topic.name not in self.patterns:
            self.patterns[topic.name] = {}
            self.lengths[len(topic.name)] += 1
        self.patterns[topic.name][wait_id] = topic.matches

    def remove(self, topic: Topic, wait_id: str) -> None:
        if topic.matches is None:
            held = self.exact.get(topic.name)
            if isinstance(held, set):
                held.discard(wait_id)
            if held in (wait_id, set()):
                del self.exact[topic.name]
            return
        waits = self.patterns.get(topic.name, {})
        waits.pop(wait_id, None)
        if not waits and self.patterns.pop(topic.name, None) is not None:
            self.lengths[len(topic.name)] -= 1
            self.lengths += Counter()  # without those that are none

    def hearing(self, name: str) -> Iterator[str]:
        held = self.exact.get(name)
        if isinstance(held, set):
            yield from held
        elif held is not None:
            yield held
        for length in self.lengths:
            if length <= len(name):
                waits = self.patterns.get(name[:length], {})
                yield from (wait_id for wait_id, matches in waits.items() if matches(name))

    @property
    def empty(self) -> bool:
        return not (self.exact or self.patterns)


class Listeners:
    """All listeners, and under which keys there are signals already."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, _Place]] = {}
        self._wake_on: dict[str, Topic] = {}
        #: When the last signal came that is kept under a (namespace, key), Unix seconds.
        self.signalled: dict[tuple[str, str], float] = {}

    def add(self, entry: HeldWait, wait: StoredWait) -> bool:
        """A wait is taken in hand. True where there is a signal for it already that it has not been poked for."""
        came = False
        if wait.spec.wake_on is not None:
            topic = self._wake_on[entry.id] = Topic(wait.namespace, SIGNAL, wait.spec.wake_on)
            self._put(topic, entry.id)
            runs = entry.progress.runs
            came = self.signalled.get((topic.namespace, topic.name), 0.0) > (
                runs[-1].last_at if runs else 0.0
            )
        for topic in entry.kind.probe.topics(entry.target):
            self._put(topic, entry.id)
            came |= topic.place == SIGNAL and (topic.namespace, topic.name) in self.signalled
        return came

    def remove(self, entry: HeldWait) -> None:
        """A wait is let go of."""
        topic = self._wake_on.pop(entry.id, None)
        topics = entry.kind.probe.topics(entry.target)
        for one in topics if topic is None else (topic, *topics):
            by_namespace = self._places.get(one.place, {})
            place = by_namespace.get(one.namespace)
            if place is not None:
                place.remove(one, entry.id)
                if place.empty:
                    del by_namespace[one.namespace]
                    if not by_namespace:
                        del self._places[one.place]

    def hearing(self, place: str, name: str, namespace: str | None) -> frozenset[str]:
        """The waits that news of `name` at `place` wakes; `namespace` None: of any."""
        by_namespace = self._places.get(place)
        if by_namespace is None:
            return frozenset()
        if namespace is None:
            return frozenset(found for one in by_namespace.values() for found in one.hearing(name))
        return frozenset(by_namespace[namespace].hearing(name)) if namespace in by_namespace else frozenset()

    def _put(self, topic: Topic, wait_id: str) -> None:
        by_namespace = self._places.setdefault(topic.place, {})
        place = by_namespace.get(topic.namespace)
        if place is None:
            place = by_namespace[topic.namespace] = _Place()
        place.add(topic, wait_id)
