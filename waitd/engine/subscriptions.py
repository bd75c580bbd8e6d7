"""Finds the waits that subscribe to a topic, without looking at other waits.

Exact names are keys of a dictionary. A pattern is stored under the prefix that all its names share,
so that a name is compared only with the patterns under its own prefixes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from waitd.engine.held_wait import HeldWait
from waitd.ports import StoredWait, Topic

log = structlog.get_logger(__name__)

#: The channel of signals.
SIGNAL = "signal"

Matches = Callable[[str], bool]


def _match(matches: Matches, name: str) -> bool:
    """Whether a pattern matches; True after a defect, since a needless poke does no harm."""
    try:
        return matches(name)
    except Exception:
        log.exception("pattern_not_matched")
        return True


@dataclass(slots=True)
class _ChannelSubscriptions:
    """The subscriptions of one namespace on one channel."""

    #: By name: one wait's id, or a set of several. Most names have one subscriber, and a set for
    #: each would take as much memory as a wait.
    exact: dict[str, str | set[str]] = field(default_factory=dict)
    #: By prefix: each wait with its pattern.
    patterns: dict[str, dict[str, Matches]] = field(default_factory=dict)
    #: How many prefixes there are of each length.
    prefix_lengths: Counter[int] = field(default_factory=Counter)

    def add(self, topic: Topic, wait_id: str) -> None:
        if topic.matches is None:
            present = self.exact.setdefault(topic.name, wait_id)
            if isinstance(present, set):
                present.add(wait_id)
            elif present != wait_id:
                self.exact[topic.name] = {present, wait_id}
            return
        if topic.name not in self.patterns:
            self.patterns[topic.name] = {}
            self.prefix_lengths[len(topic.name)] += 1
        self.patterns[topic.name][wait_id] = topic.matches

    def remove(self, topic: Topic, wait_id: str) -> None:
        if topic.matches is None:
            present = self.exact.get(topic.name)
            if isinstance(present, set):
                present.discard(wait_id)
            if present in (wait_id, set()):
                del self.exact[topic.name]
            return
        waits = self.patterns.get(topic.name, {})
        waits.pop(wait_id, None)
        if not waits and self.patterns.pop(topic.name, None) is not None:
            self.prefix_lengths[len(topic.name)] -= 1
            self.prefix_lengths += Counter()  # drops lengths without prefixes

    def matching(self, name: str) -> Iterator[str]:
        present = self.exact.get(name)
        if isinstance(present, set):
            yield from present
        elif present is not None:
            yield present
        for length in self.prefix_lengths:
            if length <= len(name):
                waits = self.patterns.get(name[:length], {})
                yield from (wait_id for wait_id, matches in waits.items() if _match(matches, name))

    @property
    def empty(self) -> bool:
        return not (self.exact or self.patterns)


class Subscriptions:
    """All subscriptions of waits to topics.

    Attributes:
        signalled_at: when the last stored signal under (namespace, key) came, Unix seconds.
    """

    def __init__(self) -> None:
        #: By channel and namespace.
        self._channels: defaultdict[str, defaultdict[str, _ChannelSubscriptions]] = defaultdict(
            lambda: defaultdict(_ChannelSubscriptions)
        )
        self._wake_on: dict[str, Topic] = {}
        self.signalled_at: dict[tuple[str, str], float] = {}

    def add(self, held: HeldWait, wait: StoredWait) -> bool:
        """Adds a wait's topics.

        Returns True if a signal came for which the wait has not been poked yet.
        """
        is_signalled = False
        if wait.spec.wake_on is not None:
            topic = self._wake_on[held.id] = Topic(wait.namespace, SIGNAL, wait.spec.wake_on)
            self._channels[topic.channel][topic.namespace].add(topic, held.id)
            runs = held.progress.runs
            last_poke = runs[-1].last_at if runs else 0.0
            is_signalled = self.signalled_at.get((topic.namespace, topic.name), 0.0) > last_poke
        for topic in held.kind.probe.topics(held.target):
            self._channels[topic.channel][topic.namespace].add(topic, held.id)
            is_signalled |= topic.channel == SIGNAL and (topic.namespace, topic.name) in self.signalled_at
        return is_signalled

    def remove(self, held: HeldWait) -> None:
        """Removes a wait's topics."""
        wake_on = self._wake_on.pop(held.id, None)
        topics = held.kind.probe.topics(held.target)
        for topic in topics if wake_on is None else (wake_on, *topics):
            by_namespace = self._channels[topic.channel]
            subscriptions = by_namespace[topic.namespace]
            subscriptions.remove(topic, held.id)
            if subscriptions.empty:
                del by_namespace[topic.namespace]
            if not by_namespace:
                del self._channels[topic.channel]

    def matching(self, channel: str, name: str, namespace: str | None) -> frozenset[str]:
        """The waits that subscribe to `name` on `channel`; namespace None: those of all."""
        by_namespace: Mapping[str, _ChannelSubscriptions] = self._channels.get(channel, {})
        namespaces = by_namespace.keys() if namespace is None else by_namespace.keys() & {namespace}
        return frozenset(wait_id for one in namespaces for wait_id in by_namespace[one].matching(name))
