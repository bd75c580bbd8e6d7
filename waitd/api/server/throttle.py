"""Limits per caller: requests a second, resources held at a time, and failed authentications.

A caller on loopback without authentication is this machine itself; what it may hold is limited only
to protect the daemon.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import NamedTuple

from waitd.api.problems import ProblemError, limit_problem, refusal
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal
from waitd.core.auth.quotas import Exceeded, Quota, Resource, Share
from waitd.core.auth.rate_limit import RateLimiter
from waitd.core.auth.submit_rates import SubmitRates
from waitd.core.errors import LimitReached
from waitd.metrics import Instruments
from waitd.models import MAX_BODY

#: How many failed authentications an address may have in a burst, and how many more a second.
FAILURES = 20
FAILURES_PER_SECOND = 1.0
#: Likewise for requests to what does not exist.
STRAYS = 100
STRAYS_PER_SECOND = 10.0
#: How many requests a refused one (403, 404, 413, 422) counts as: by default a caller has 500 a
#: second.
REFUSAL_COST = 10
#: How many namespaces the metric of refusals names; the rest are counted as `(other)`.
MAX_NAMED = 100


class _Refusal(NamedTuple):
    """How a caller is refused that may hold no more of a resource.

    `problem`: the kind of the problem.
    """

    problem: str
    noun: str
    advice: str


_REFUSALS: Mapping[Resource, _Refusal] = {
    Resource.REQUESTS: _Refusal("too-many-requests", "concurrent requests", "wait for one to finish"),
    Resource.EVENT_STREAMS: _Refusal("too-many-readers", "open event streams", "close one"),
    Resource.LONG_POLLS: _Refusal(
        "too-many-long-polls", "open long-polls", "send it again later, or without `wait`"
    ),
    Resource.READS: _Refusal("too-many-lists", "lists in progress", "finish reading one"),
    Resource.BATCHES: _Refusal(
        "too-many-batches", "batches in progress", "nothing was stored; send it again later"
    ),
}


class Throttle:
    """Refuses callers that are over their limits. Keeps its counts in memory; not thread-safe."""

    def __init__(
        self,
        *,
        requests_per_second: float = 0.0,
        request_burst: int = 1,
        quotas: Mapping[Resource, Quota] | None = None,
        submit_rates: SubmitRates | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        """Sets the limits.

        Args:
            requests_per_second: of each caller; 0: no limit.
            request_burst: the most requests at once after a pause.
            quotas: what callers may hold; the default applies to resources that are missing.
            submit_rates: how many waits callers may submit; None: any number.
            instruments: count the refusals.
        """
        self._requests = RateLimiter(requests_per_second, request_burst) if requests_per_second else None
        self._quotas = {resource: Quota(resource) for resource in Resource} | dict(quotas or {})
        self._running = self._quotas[Resource.REQUESTS]
        self.submit_rates = submit_rates or SubmitRates()
        self._strays = RateLimiter(STRAYS_PER_SECOND * REFUSAL_COST, STRAYS * REFUSAL_COST)
        self._failures = RateLimiter(FAILURES_PER_SECOND, FAILURES)
        self._refused = instruments.limits_exceeded if instruments else None
        self._named: set[str] = set()

    def begin(self, principal: Principal) -> None:
        """Counts one request of the caller, until it is taken off with `end`.

        Raises:
            ProblemError: 429 with Retry-After.
        """
        if principal is LOOPBACK_PRINCIPAL:
            return
        if exceeded := self._running.exceeded(principal):
            raise self._refusal(Resource.REQUESTS, principal, exceeded)
        self._check_rate(principal)
        self._running.add(principal)

    def end(self, principal: Principal) -> None:
        """Takes a request off that was served."""
        if principal is not LOOPBACK_PRINCIPAL:
            self._running.remove(principal)

    @contextmanager
    def hold(self, resource: Resource, principal: Principal) -> Iterator[None]:
        """Counts a resource as held by the caller while the block runs.

        Raises:
            ProblemError: 429 with Retry-After.
        """
        quota = self._quotas[resource]
        if exceeded := quota.exceeded(principal):
            raise self._refusal(resource, principal, exceeded)
        quota.add(principal)
        try:
            yield
        finally:
            quota.remove(principal)

    def take_waits(self, principal: Principal, count: int) -> tuple[int, LimitReached | None]:
        """Counts up to `count` submitted waits; returns how many, and the limit that is met.

        The caller counts the refused ones with `count`.
        """
        return self.submit_rates.take(principal, count, monotonic())

    def used(self, resource: Resource, namespace: str, principal: str) -> tuple[int, int, Share]:
        """How much of a resource the namespace and the principal hold, and their limits."""
        return self._quotas[resource].used(namespace, principal)

    def charge(self, principal: Principal, lines: int, size: int) -> None:
        """Counts a batch as the requests that it replaces; later requests have to wait for it."""
        more = max(lines, -(-size // MAX_BODY)) - 1
        if self._requests is not None and principal is not LOOPBACK_PRINCIPAL and more > 0:
            self._requests.consume(principal.name, monotonic(), more)

    def record_failure(self, remote: str | None) -> None:
        """Counts a failed authentication from an address.

        Only failures are counted and refused: a valid token works, however often someone at the
        same address, such as that of a proxy, guesses.

        Raises:
            ProblemError: 429 with Retry-After, authentication failed too often from this address.
        """
        address, now = network_of(remote), monotonic()
        if seconds := self._failures.delay(address, now):
            raise refusal("too-many-failures", "send a valid token, or wait", headers=_retry_after(seconds))
        self._failures.consume(address, now)

    def charge_refusal(self, principal: Principal | None, remote: str | None) -> None:
        """Counts a refusal, as several requests of the caller; without one, for its address."""
        if principal is None:
            self._strays.consume(network_of(remote), monotonic(), REFUSAL_COST)
        elif self._requests is not None and principal is not LOOPBACK_PRINCIPAL:
            self._requests.consume(principal.name, monotonic(), REFUSAL_COST - 1)

    def check_refused(self, principal: Principal | None, remote: str | None) -> None:
        """Checks the rate of a caller that is refused before its request was counted.

        Raises:
            ProblemError: 429 with Retry-After.
        """
        if principal is not None:
            self._check_rate(principal)
        elif seconds := self._strays.delay(network_of(remote), monotonic()):
            raise refusal(
                "too-many-requests",
                "too many requests from this address to what does not exist",
                headers=_retry_after(seconds),
            )

    def _check_rate(self, principal: Principal) -> None:
        if self._requests is None:
            return
        if seconds := self._requests.take(principal.name, monotonic()):
            self.count(principal, "requests_per_second")
            raise limit_problem(
                "too-many-requests",
                "requests_per_second",
                "more requests a second than the setting requests_per_second; a batch counts its lines",
                seconds,
            )

    def _refusal(self, resource: Resource, principal: Principal, exceeded: Exceeded) -> ProblemError:
        self.count(principal, exceeded.limit)
        problem, noun, advice = _REFUSALS[resource]
        held = f"{exceeded.holder} may have {exceeded.most:.0f} {noun} (the limit {exceeded.limit})"
        return limit_problem(problem, exceeded.limit, f"{held}; {advice}", 1.0)

    def count(self, principal: Principal, limit: str, times: int = 1) -> None:
        """Counts what a limit refused, in the metric."""
        if self._refused is None:
            return
        namespace = principal.namespace
        if namespace not in self._named:
            if len(self._named) >= MAX_NAMED:
                namespace = "(other)"
            else:
                self._named.add(namespace)
        self._refused.labels(namespace, limit).inc(times)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}


def network_of(remote: str | None) -> str:
    """Returns what shares a limit: an IPv4 address, or the IPv6 /64 network of one customer."""
    address = ip_address(remote.partition("%")[0]) if remote else None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)
