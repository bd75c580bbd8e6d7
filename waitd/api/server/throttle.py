"""How much one caller may ask for: requests a second, requests at the same time, and failed authentications from one address.

Whoever reaches a daemon on loopback without authentication is this machine itself, and is not limited.
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

#: Failed authentications that an address may have at once, and how many more a second.
FAILURES = 20
FAILURES_PER_SECOND = 1.0


class Throttle:
    """Refuses whoever asks for too much. In memory only: a restart forgives. Lives in the event loop; not for threads."""

    def __init__(self, *, requests_per_second: float = 0.0, request_burst: int = 1, at_once: int = 0) -> None:
        """`requests_per_second` and `at_once` (requests of one caller at the same time): 0 is no limit."""
        self._requests = RateLimiter(requests_per_second, request_burst) if requests_per_second else None
        self._at_once = at_once or math.inf
        self._in_hand: Counter[str] = Counter()
        self._failures = RateLimiter(FAILURES_PER_SECOND, FAILURES)

    @contextmanager
    def request(self, principal: Principal) -> Iterator[None]:
        """One request of the caller, while it is served.

        Raises:
            ProblemError: 429 with Retry-After.
        """
        if principal is LOOPBACK_PRINCIPAL:
            yield
            return
        name = principal.name
        self._check(name)
        self._in_hand[name] += 1
        try:
            yield
        finally:
            self._in_hand[name] -= 1
            if not self._in_hand[name]:
                del self._in_hand[name]

    def charge(self, principal: Principal, lines: int, size: int) -> None:
        """A batch of so many lines and bytes counts as the requests that it stands for: its caller pays before the next one."""
        more = max(lines, -(-size // MAX_BODY)) - 1
        if self._requests is not None and principal is not LOOPBACK_PRINCIPAL and more > 0:
            self._requests.draw(principal.name, monotonic(), more)

    def check_address(self, remote: str | None) -> None:
        """Before a token is looked at that is not known yet. One that is known is let in wherever it comes from: who guesses at
        the same address does not keep it out.

        Raises:
            ProblemError: 429 with Retry-After, authentication has failed too often from there.
        """
        if seconds := self._failures.wait(_network(remote), monotonic()):
            raise refusal(
                "too-many-failures", "send a token that is known, or wait", headers=_retry_after(seconds)
            )

    def failed(self, remote: str | None) -> None:
        """A token from there was not good. Raises ProblemError: as `check_address`, where it is one too many."""
        self.check_address(remote)
        self._failures.draw(_network(remote), monotonic())

    def _check(self, name: str) -> None:
        if self._in_hand[name] >= self._at_once:
            raise refusal(
                "too-many-requests", f"{self._at_once} of them are being answered", headers=_retry_after(1.0)
            )
        if self._requests is None:
            return
        now = monotonic()
        if seconds := self._requests.wait(name, now):
            raise refusal(
                "too-many-requests",
                "more a second than the setting requests_per_second; a batch counts its lines",
                headers=_retry_after(seconds),
            )
        self._requests.draw(name, now)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}


def _network(remote: str | None) -> str:
    """Who shares a bucket: an IPv4 address, or an IPv6 network of which one customer has all addresses."""
    address = ip_address(remote.partition("%")[0]) if remote else None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)
