"""How much each namespace and each principal may hold at the same time.

A namespace is a team, and a principal is one of its keys or users.
"""

import math
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal

#: A namespace may hold this many of a resource even if others hold all that the daemon has.
GUARANTEED = 8


class Resource(StrEnum):
    """What a request holds while it is served. The names of its limits begin with the value."""

    REQUESTS = "concurrent_requests"
    EVENT_STREAMS = "event_streams"
    LONG_POLLS = "long_polls"
    READS = "reads"
    BATCHES = "batches"


class Share(NamedTuple):
    """The most of a resource that a namespace and each of its principals may hold."""

    namespace: float = math.inf
    principal: float = math.inf


#: The shares without settings. A team of fifty stays below them; the lists and batches of one
#: caller also bound the memory that it takes.
DEFAULT_SHARES: Mapping[Resource, Share] = {
    Resource.REQUESTS: Share(),
    Resource.EVENT_STREAMS: Share(80, 50),
    Resource.LONG_POLLS: Share(500, 250),
    Resource.READS: Share(32, 4),
    Resource.BATCHES: Share(6, 4),
}


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
        self._by_namespace: Counter[str] = Counter()
        self._by_principal: Counter[str] = Counter()

    def exceeded(self, principal: Principal) -> Exceeded | None:
        """Returns the limit because of which the principal may hold no more now; None if it may."""
        namespace, name = principal.namespace, principal.name
        share = self._namespaces.get(namespace, self._share)
        # This machine shares the daemon with no one. Its lists take memory all the same.
        if principal is not LOOPBACK_PRINCIPAL or self._resource is Resource.READS:
            if self._by_principal[name] >= share.principal:
                return Exceeded(f"{self._resource}_per_principal", "you", share.principal)
            if self._by_namespace[namespace] >= share.namespace:
                holder = f"the namespace {namespace}"
                return Exceeded(f"{self._resource}_per_namespace", holder, share.namespace)
        if self._held >= self._total and self._by_namespace[namespace] >= min(GUARANTEED, self._total):
            return Exceeded(f"max_{self._resource}", "all callers together", self._total)
        return None

    def add(self, principal: Principal) -> None:
        """Counts what the principal holds from now on."""
        self._held += 1
        self._by_namespace[principal.namespace] += 1
        self._by_principal[principal.name] += 1

    def remove(self, principal: Principal) -> None:
        """Counts what the principal holds no longer."""
        self._held -= 1
        for counts, name in (
            (self._by_namespace, principal.namespace),
            (self._by_principal, principal.name),
        ):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
