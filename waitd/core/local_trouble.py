"""Tells the daemon's own trouble from a target's: no descriptor, memory, disk, network or resolver.

Nothing of it is counted against a target. Some errors are the daemon's own for certain. That a
network or a name server cannot be reached may also be a target's fault, so that counts as own only
while several origins fail in this way and none is reached.
"""

import errno
import socket
from collections.abc import Iterator
from math import inf

from waitd.core.bounded_dict import BoundedDict
from waitd.core.waits.verdict import LOCAL_ERROR, Unreachable

_BY_NUMBER = {
    errno.EMFILE: "the daemon has no free file descriptor (ulimit -n)",
    errno.ENFILE: "the machine has no free file descriptor",
    errno.ENOMEM: "memory is short",
    errno.ENOBUFS: "memory for sockets is short",
    errno.ENOSPC: "a disk is full",
    errno.EDQUOT: "the quota of a disk is used up",
}
_NO_THREAD = "no thread can be started"
#: Verdicts that are the daemon's own trouble if they meet several origins and nothing else works.
NETWORK_UNREACHABLE = Unreachable("no_route", "The network cannot be reached.")
NO_FREE_ADDRESS = Unreachable("no_route", "No local port or address is free for the connection.")
NAME_SERVERS_SILENT = Unreachable("dns", "The name servers gave no answer.")
_SUSPECT = {
    NETWORK_UNREACHABLE: "the network cannot be reached",
    NO_FREE_ADDRESS: "no local port is free",
    NAME_SERVERS_SILENT: "the name servers give no answer",
}
#: The verdicts that `suspect_verdict` returns.
SUSPECT_VERDICTS = tuple(_SUSPECT)
#: How many origins must fail in this way, and for how long that is remembered, in seconds.
SUSPECT_ORIGINS, SUSPECT_SECONDS = 3, 60.0
#: For how long none may have been reached meanwhile, in seconds.
QUIET_SECONDS = 15.0
#: How long a trouble counts as lasting after its last sign, in seconds.
LASTING_SECONDS = 45.0


def local_trouble(error: BaseException | None) -> str | None:
    """What is wrong with the daemon or its machine, if an error or one that it wraps says so."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError):
            return _BY_NUMBER[errno.ENOMEM]
        if isinstance(cause, RuntimeError) and "start new thread" in str(cause):
            return _NO_THREAD
        if isinstance(cause, socket.gaierror):
            if cause.errno == socket.EAI_MEMORY:
                return _BY_NUMBER[errno.ENOMEM]
        elif isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno]
    return None


def suspect_verdict(error: BaseException) -> Unreachable | None:
    """The verdict on an error that may be the daemon's own trouble, see `LocalTrouble.judge`."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return NAME_SERVERS_SILENT if cause.errno == socket.EAI_AGAIN else None
        if isinstance(cause, OSError) and cause.errno in {errno.ENETUNREACH, errno.ENETDOWN}:
            return NETWORK_UNREACHABLE
        if isinstance(cause, OSError) and cause.errno == errno.EADDRNOTAVAIL:
            return NO_FREE_ADDRESS
    return None


def local_verdict(trouble: str) -> Unreachable:
    """The verdict of a poke that the daemon's own trouble prevented."""
    return Unreachable(LOCAL_ERROR, f"waitd could not poke: {trouble}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = getattr(error, "os_error", None) or getattr(error, "orig", None)
        error = wrapped if isinstance(wrapped, BaseException) else error.__cause__ or error.__context__


class LocalTrouble:
    """The trouble of one daemon. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._last: tuple[str, float] = ("", -inf)
        #: Origins that failed in a suspect way since one was reached, and when.
        self._suspects: BoundedDict[str, float] = BoundedDict(SUSPECT_ORIGINS)
        #: When an origin was last reached: the network and the name servers worked.
        self.reached_at = -inf

    def report(self, trouble: str, now: float) -> bool:
        """Notes a trouble; True if it is new, or has begun again."""
        before, at = self._last
        self._last = trouble, now
        return before != trouble or now - at > LASTING_SECONDS

    def current(self, now: float) -> str:
        """The trouble that lasts at `now`; "" if there is none."""
        trouble, at = self._last
        return trouble if now - at <= LASTING_SECONDS else ""

    def judge(self, verdict: Unreachable, origin: str, now: float) -> str | None:
        """The daemon's trouble behind an unreachable origin; None if it is the origin's."""
        # Calls that need more than a poke put their own words before the message.
        trouble = next(
            (own for sign, own in _SUSPECT.items() if verdict.message.endswith(sign.message)), None
        )
        if trouble is None:
            return None
        self._suspects[origin] = now
        oldest = max(now - SUSPECT_SECONDS, self.reached_at)
        while next(iter(self._suspects.values())) < oldest:
            del self._suspects[next(iter(self._suspects))]
        nothing_works = now - self.reached_at >= QUIET_SECONDS
        return trouble if nothing_works and len(self._suspects) >= SUSPECT_ORIGINS else None
