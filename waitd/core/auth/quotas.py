"""How much each namespace and each principal may hold at the same time.

A namespace is a team, and a principal is one of its keys or users.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal
from waitd.core.errors import LimitReached

#: A namespace may hold this many of a resource even if others hold all that the daemon has.
GUARANTEED = 8

#: A page of a list ends after the item that reaches this size, in bytes, if nothing else is set.
PAGE_BYTES = 4 * 1024 * 1024


class Resource(StrEnum):
    """What a request holds while it is served. The names of its limits begin with the value."""

    REQUESTS = "concurrent_requests"
    EVENT_STREAMS = "event_streams"
    LONG_POLLS = "long_polls"
    READS = "reads"
    BATCHES = "batches"


class Kept(StrEnum):
    """What the database keeps for callers. The names of its limits begin with the value."""

    WAITS = "waits_held"
    ENDED_WAITS = "ended_waits"
    ENDED_BYTES = "ended_bytes"
    SIGNALS = "signals"
    SIGNAL_BYTES = "signal_bytes"
    REDELIVERIES = "redeliveries"

    __hash__ = str.__hash__  # that of an enum is ten times as slow


class Share(NamedTuple):
    """The most of something that a namespace and each of its principals may have."""

    namespace: float = math.inf
    principal: float = math.inf


_UNLIMITED = Share()
#: How many callers' limits are kept ready.
MAX_CALLERS = 1000

#: The shares without settings. A team of fifty stays below them; the lists and batches of one
#: caller also bound the memory that it takes.
DEFAULT_SHARES: Mapping[Resource, Share] = {
    Resource.REQUESTS: Share(),
    Resource.EVENT_STREAMS: Share(80, 50),
    Resource.LONG_POLLS: Share(500, 250),
    Resource.READS: Share(32, 4),
    Resource.BATCHES: Share(6, 4),
}


#: After how many seconds there may be room again: waits and deliveries end at any time, what is
#: kept is deleted by sweeps.
_RETRY_AFTER = {Kept.WAITS: 5.0, Kept.REDELIVERIES: 5.0}
_RETRY_AFTER_SWEEP = 30.0


#: By what is kept, the namespace, and the principal; None: all of them.
UsageKey = tuple[Kept, str, str | None]


class WaitLimit(NamedTuple):
    """One limit of the waits of a caller, with the keys of what is used of it.

    `counts_waits`: else it counts bytes, of which a new wait takes none yet.
    """

    namespace: UsageKey
    principal: UsageKey
    of_namespace: float
    of_principal: float
    counts_waits: bool


class KeptLimits:
    """The shares of what the database keeps. A namespace without any may keep everything."""

    def __init__(
        self,
        shares: Mapping[Kept, Share] | None = None,
        namespaces: Mapping[str, Mapping[Kept, Share]] | None = None,
    ) -> None:
        """`shares`: those of every namespace that is not in `namespaces`."""
        self._shares = shares or {}
        self._namespaces = namespaces or {}
        #: Finds the limits of the waits of a namespace and a principal.
        self.of_waits = lru_cache(MAX_CALLERS)(self._of_waits)

    def share(self, kept: Kept, namespace: str) -> Share:
        """The limits for one namespace and each of its principals."""
        return self._namespaces.get(namespace, self._shares).get(kept, _UNLIMITED)

    def _of_waits(self, namespace: str, principal: str) -> tuple[WaitLimit, ...]:
        return tuple(
            WaitLimit(
                (kept, namespace, None),
                (kept, namespace, principal),
                *self.share(kept, namespace),
                counts_waits=kept is not Kept.ENDED_BYTES,
            )
            for kept in (Kept.WAITS, Kept.ENDED_WAITS, Kept.ENDED_BYTES)
        )


class Room(NamedTuple):
    """How much more of something a caller may have.

    Attributes:
        left: negative if the limit was lowered.
        scope: whose limit it is, `namespace` or `principal`.
        most: the limit.
    """

    left: float
    kept: Kept
    scope: str
    namespace: str
    most: float

    @property
    def reached(self) -> LimitReached:
        """The error that the limit leaves no room."""
        holder = f"the namespace {self.namespace}" if self.scope == "namespace" else "you"
        retry_after = _RETRY_AFTER.get(self.kept, _RETRY_AFTER_SWEEP)
        return LimitReached(f"{self.kept}_per_{self.scope}", holder, self.most, retry_after)


def room_for(kept: Kept, share: Share, namespace: str, of_namespace: int, of_principal: int) -> Room:
    """The room of a caller, given how much of `kept` its namespace has and itself."""
    left, mine = share.namespace - of_namespace, share.principal - of_principal
    if mine < left:
        return Room(mine, kept, "principal", namespace, share.principal)
    return Room(left, kept, "namespace", namespace, share.namespace)


class Exceeded(NamedTuple):
    """A limit that is reached.

    Attributes:
        limit: its name, that of a setting where there is one.
        holder: who holds as much as the limit allows.
        most: the limit.
    """

    limit: str
    holder: str
    most: float


class Quota:
    """Counts who holds how much of one resource, and judges who may hold more. Not thread-safe."""

    def __init__(
        self,
        resource: Resource,
        share: Share | None = None,
        *,
        namespaces: Mapping[str, Share] | None = None,
        total: int | None = None,
    ) -> None:
        """Sets the limits.

        Args:
            resource: what is counted.
            share: that of every namespace that is not in `namespaces`; None: the default.
            namespaces: the shares of single namespaces.
            total: the most that all namespaces together may hold; None: no limit.
        """
        self._resource = resource
        self._share = share or DEFAULT_SHARES[resource]
        self._namespaces = namespaces or {}
        self._total = math.inf if total is None else total
        self._held = 0
        self._by_namespace: dict[str, int] = {}
        self._by_principal: dict[str, int] = {}

    def used(self, namespace: str, principal: str) -> tuple[int, int, Share]:
        """How much the namespace and the principal hold, and their limits."""
        share = self._namespaces.get(namespace, self._share)
        return self._by_namespace.get(namespace, 0), self._by_principal.get(principal, 0), share

    def exceeded(self, principal: Principal) -> Exceeded | None:
        """Returns the limit because of which the principal may hold no more now; None if it may."""
        namespace, name = principal.namespace, principal.name
        share = self._namespaces.get(namespace, self._share)
        # This machine shares the daemon with no one. Its lists take memory all the same.
        if principal is not LOOPBACK_PRINCIPAL or self._resource is Resource.READS:
            if self._by_principal.get(name, 0) >= share.principal:
                return Exceeded(f"{self._resource}_per_principal", "you", share.principal)
            if self._by_namespace.get(namespace, 0) >= share.namespace:
                holder = f"the namespace {namespace}"
                return Exceeded(f"{self._resource}_per_namespace", holder, share.namespace)
        mine = self._by_namespace.get(namespace, 0)
        if self._held >= self._total and mine >= min(GUARANTEED, self._total):
            return Exceeded(f"max_{self._resource}", "all callers together", self._total)
        return None

    def add(self, principal: Principal) -> None:
        """Counts what the principal holds from now on."""
        self._held += 1
        namespaces, principals = self._by_namespace, self._by_principal
        namespaces[principal.namespace] = namespaces.get(principal.namespace, 0) + 1
        principals[principal.name] = principals.get(principal.name, 0) + 1

    def remove(self, principal: Principal) -> None:
        """Counts what the principal holds no longer."""
        self._held -= 1
        _decrement(self._by_namespace, principal.namespace)
        _decrement(self._by_principal, principal.name)


def _decrement(counts: dict[str, int], name: str) -> None:
    """Counts one less; what is zero is not kept."""
    count = counts[name] - 1
    if count:
        counts[name] = count
    else:
        del counts[name]
