"""Limits per caller: requests a second, concurrent requests, and failed authentications.

A caller on loopback without authentication is this machine itself, and is not limited.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic

from waitd.api.problems import refusal
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal
from waitd.core.auth.rate_limit import RateLimiter
from waitd.models import MAX_BODY

#: How many failed authentications an address may have in a burst, and how many more a second.
FAILURES = 20
FAILURES_PER_SECOND = 1.0


class Throttle:
    """Refuses callers that are over their limits. Keeps its counts in memory; not thread-safe."""

    def __init__(
        self, *, requests_per_second: float = 0.0, request_burst: int = 1, max_concurrent: int = 0
    ) -> None:
        """`requests_per_second` and `max_concurrent` apply to each caller; 0 means no limit."""
        self._requests = RateLimiter(requests_per_second, request_burst) if requests_per_second else None
        self._max_concurrent = max_concurrent or math.inf
        self._running: Counter[str] = Counter()
        self._failures = RateLimiter(FAILURES_PER_SECOND, FAILURES)

    @contextmanager
    def request(self, principal: Principal) -> Iterator[None]:
        """Counts one request of the caller while it is served.

        Raises:
            ProblemError: 429 with Retry-After.
        """
        if principal is LOOPBACK_PRINCIPAL:
            yield
            return
        name = principal.name
        self._check(name)
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]

    def charge(self, principal: Principal, lines: int, size: int) -> None:
        """Counts a batch as the requests that it replaces; later requests have to wait for it."""
        more = max(lines, -(-size // MAX_BODY)) - 1
        if self._requests is not None and principal is not LOOPBACK_PRINCIPAL and more > 0:
            self._requests.consume(principal.name, monotonic(), more)

    def check_address(self, remote: str | None) -> None:
        """Checks the failures of an address before an unknown token is examined.

        A cached token skips this check, so that someone who guesses tokens does not lock out others
        at the same address.

        Raises:
            ProblemError: 429 with Retry-After, authentication failed too often from this address.
        """
        if seconds := self._failures.delay(_network(remote), monotonic()):
            raise refusal("too-many-failures", "send a valid token, or wait", headers=_retry_after(seconds))

    def record_failure(self, remote: str | None) -> None:
        """Counts a failed authentication; raises as `check_address` does if it is one too many."""
        self.check_address(remote)
        self._failures.consume(_network(remote), monotonic())

    def _check(self, name: str) -> None:
        if self._running[name] >= self._max_concurrent:
            raise refusal(
                "too-many-requests",
                f"you have {self._max_concurrent} concurrent requests; wait for one to finish",
                headers=_retry_after(1.0),
            )
        if self._requests is None:
            return
        now = monotonic()
        if seconds := self._requests.delay(name, now):
            raise refusal(
                "too-many-requests",
                "more requests a second than the setting requests_per_second; a batch counts its lines",
                headers=_retry_after(seconds),
            )
        self._requests.consume(name, now)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}


def _network(remote: str | None) -> str:
    """Returns what shares a limit: an IPv4 address, or the IPv6 /64 network of one customer."""
    address = ip_address(remote.partition("%")[0]) if remote else None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)
