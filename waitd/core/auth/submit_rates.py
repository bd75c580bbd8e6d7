"""How many waits a second each namespace and each of its principals may submit."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from waitd.core.auth.principal import Principal
from waitd.core.auth.quotas import Share
from waitd.core.auth.rate_limit import RateLimiter
from waitd.core.errors import LimitReached

#: After a pause, the waits of so many seconds may be submitted at once.
BURST_SECONDS = 10
#: The name of the limit, as in the settings.
SUBMIT_RATE_LIMIT = "waits_per_second"


class _Limiters(NamedTuple):
    share: Share
    namespace: RateLimiter | None
    principal: RateLimiter | None


class SubmitRates:
    """Counts waits in token buckets. Not thread-safe."""

    def __init__(self, share: Share | None = None, namespaces: Mapping[str, Share] | None = None) -> None:
        """`share`: that of each namespace that is not in `namespaces`; None: any number."""
        self._default = _limiters(share or Share())
        self._namespaces = {name: _limiters(own) for name, own in (namespaces or {}).items()}

    def share(self, namespace: str) -> Share:
        """The waits a second of a namespace and each of its principals."""
        return self._namespaces.get(namespace, self._default).share

    def take(self, principal: Principal, count: int, now: float) -> tuple[int, LimitReached | None]:
        """Takes up to `count` waits; returns how many, and the limit that allows no more."""
        namespace, limiters = principal.namespace, self._namespaces.get(principal.namespace, self._default)
        if count == 1:
            return _take_one(principal, limiters, now)
        granted, reached = count, None
        limiter = limiters.namespace
        if limiter is not None and (left := limiter.available(namespace, now)) < granted:
            holder = f"the namespace {namespace}"
            granted, reached = left, _reached("namespace", holder, limiters.share.namespace)
        name = (namespace, principal.name)
        limiter = limiters.principal
        if limiter is not None and (left := limiter.available(name, now)) < granted:
            granted, reached = left, _reached("principal", "you", limiters.share.principal)
        if granted:
            if limiters.namespace is not None:
                limiters.namespace.consume(namespace, now, granted)
            if limiters.principal is not None:
                limiters.principal.consume(name, now, granted)
        return granted, reached


def _take_one(principal: Principal, limiters: _Limiters, now: float) -> tuple[int, LimitReached | None]:
    namespace, shared = principal.namespace, limiters.namespace
    if shared is not None and shared.take(namespace, now):
        return 0, _reached("namespace", f"the namespace {namespace}", limiters.share.namespace)
    own = limiters.principal
    if own is not None and own.take((namespace, principal.name), now):
        if shared is not None:
            shared.consume(namespace, now, -1)  # it is given back
        return 0, _reached("principal", "you", limiters.share.principal)
    return 1, None


def _reached(scope: str, holder: str, rate: float) -> LimitReached:
    return LimitReached(f"{SUBMIT_RATE_LIMIT}_per_{scope}", holder, rate, 1 / rate)


def _limiters(share: Share) -> _Limiters:
    return _Limiters(share, _limiter(share.namespace), _limiter(share.principal))


def _limiter(rate: float) -> RateLimiter | None:
    return None if rate == math.inf else RateLimiter(rate, max(1, math.ceil(rate * BURST_SECONDS)))
