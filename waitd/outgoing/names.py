"""The addresses of host names: looked up once for all who ask, and cached.

One `CachingResolver` serves a daemon. A name whose look-up hangs delays only those who ask for it.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, Protocol

import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from waitd.core.bounded_dict import BoundedDict

log = structlog.get_logger(__name__)

#: Bounds of the time for which an answer is used without another look-up, in seconds.
MIN_TTL, MAX_TTL = 5.0, 3600.0
#: How long a failed look-up is not repeated, in seconds.
RETRY_SECONDS = 5.0
#: How long after its TTL an answer is still used if look-ups fail, in seconds.
MAX_STALE = 3600.0
#: How long a look-up may take before those who ask get an error, in seconds.
LOOKUP_SECONDS = 5.0
#: How long they wait if there is an answer past its TTL (RFC 8767 names 1.8), in seconds.
STALE_AFTER = 1.8
#: How long a check whether name servers answer at all waits for them, in seconds.
SERVERS_SECONDS = 1.0
#: How often the files that configure look-ups are checked for changes, in seconds.
CHECK_SECONDS = 2.0
#: The most names that are cached.
MAX_NAMES = 10_000
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

Addresses = Sequence[tuple[socket.AddressFamily, str]]


class NameNotFound(socket.gaierror):
    """The name does not exist."""

    def __init__(self, message: str = "the host name does not exist") -> None:
        super().__init__(socket.EAI_NONAME, message)


class LookupFailed(socket.gaierror):
    """The name may exist, but no name server gave an address now."""

    def __init__(self, message: str = "the host name could not be looked up") -> None:
        super().__init__(socket.EAI_AGAIN, message)


class NoDescriptor(LookupFailed):
    """The daemon has no file descriptor to ask a name server with; `os_error` says so."""

    os_error = OSError(errno.EMFILE, "no free file descriptor")


class NameUnanswered(LookupFailed):
    """No name server gave an address of this name, but they answer about other names."""

    def __init__(self, message: str = "the name servers answer, but not about this host name") -> None:
        super().__init__(message)
        self.errno = socket.EAI_FAIL


class Answer(NamedTuple):
    """The addresses of a name, best first, and for how many seconds they hold."""

    addresses: Addresses
    ttl: float


class Lookup(Protocol):
    """Looks names up, without a cache.

    Attributes:
        limit: the most look-ups of unknown names at a time.
    """

    limit: int

    async def find(self, host: str) -> Answer:
        """Looks a name up.

        Raises:
            NameNotFound: there is no such name.
            LookupFailed: no name server answers now.
        """

    async def servers_answer(self) -> bool:
        """Whether the name servers answer at all. It has no time limit."""

    def has_changed(self) -> bool:
        """Whether the files that configure look-ups changed since the last call."""

    async def close(self) -> None:
        """Ends all look-ups."""


@dataclass(slots=True)
class CachedName:
    """What is known of a name.

    Attributes:
        addresses: empty if the last look-up gave none.
        fresh_until: when it is looked up again, monotonic seconds.
        stale_until: until when the addresses may be used if look-ups fail.
        error: why there are no addresses.
        is_stale: whether the addresses are past their TTL because a look-up failed.
    """

    addresses: Addresses
    fresh_until: float
    stale_until: float = 0.0
    error: type[socket.gaierror] = LookupFailed
    is_stale: bool = False


class CachingResolver(AbstractResolver):
    """The resolver of a daemon, also for aiohttp's connectors, which need no cache then."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        now: Callable[[], float] = monotonic,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Creates a resolver.

        Args:
            lookup: looks names up.
            now: gives monotonic seconds.
            count: gets the result of each look-up: `found`, `not_found`, `failed`, `stale` (failed,
                and the last answer is used on) or `refused` (too many at a time).
        """
        self._lookup = lookup
        self._now = now
        self._count = count
        self._names: BoundedDict[str, CachedName] = BoundedDict(MAX_NAMES)
        self._lookups: dict[str, asyncio.Task[None]] = {}
        #: With those that began before the configuration changed.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_check = 0.0
        #: Whether the name servers answer at all, and until when that holds, monotonic seconds.
        self._servers: asyncio.Task[bool] | None = None
        self._servers_until = 0.0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Returns the addresses of a name, from the cache if they are fresh.

        Raises:
            NameNotFound: there is no such name, or it has no address of that family.
            LookupFailed: no name server answers now, and the last answer is too old.
        """
        addresses = [
            ResolveResult(hostname=host, host=address, port=port, family=found, proto=0, flags=_NUMERIC)
            for found, address in await self._addresses(host.lower())
            if family in {socket.AF_UNSPEC, found}
        ]
        if not addresses:
            raise NameNotFound
        return addresses

    async def _addresses(self, host: str) -> Addresses:
        now = self._now()
        if now >= self._next_check:
            self._check_files(now)
        name = self._names.get(host)
        if name is None or now >= name.fresh_until:
            usable = name is not None and bool(name.addresses) and now < name.stale_until
            task = self._lookups.get(host) or self._start(host, known=usable)
            await asyncio.wait({task}, timeout=STALE_AFTER if usable else LOOKUP_SECONDS)
            if task.done():
                name = self._names.get(host)
            elif not usable:
                raise await self._failure()
        if name is None or not name.addresses:
            raise LookupFailed if name is None else name.error
        addresses = name.addresses
        name.addresses = [*addresses[1:], addresses[0]]  # the next connection begins with another
        return addresses

    def _start(self, host: str, *, known: bool) -> asyncio.Task[None]:
        """Starts a look-up. One of a name that was found before is never refused."""
        if not known and len(self._tasks) >= self._lookup.limit:
            self._count("refused")
            raise NameUnanswered("too many host names are being looked up")
        task = self._lookups[host] = asyncio.get_running_loop().create_task(self._look_up(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look_up(self, host: str) -> None:
        try:
            name = self._found(await self._lookup.find(host))
        except socket.gaierror as error:
            known = isinstance(error, NameNotFound | NoDescriptor)
            name = self._failed(host, error, type(error) if known else await self._failure())
        if self._lookups.get(host) is asyncio.current_task():
            del self._lookups[host]
            self._names[host] = name

    def _found(self, answer: Answer) -> CachedName:
        self._count("found")
        fresh_until = self._now() + min(max(answer.ttl, MIN_TTL), MAX_TTL)
        return CachedName(answer.addresses, fresh_until, fresh_until + MAX_STALE)

    async def _failure(self) -> type[LookupFailed]:
        """The error of a name without an answer, by whether the name servers answer at all."""
        if self._servers is None or self._now() >= self._servers_until:
            self._servers_until = self._now() + RETRY_SECONDS
            self._servers = asyncio.get_running_loop().create_task(self._lookup.servers_answer())
            self._tasks.add(self._servers)
            self._servers.add_done_callback(self._tasks.discard)
        answered, _ = await asyncio.wait({self._servers}, timeout=SERVERS_SECONDS)
        return NameUnanswered if any(task.result() for task in answered) else LookupFailed

    def _failed(self, host: str, error: socket.gaierror, kind: type[socket.gaierror]) -> CachedName:
        now, last = self._now(), self._names.get(host)
        if kind is NameNotFound:
            self._count("not_found")
            return CachedName((), now + RETRY_SECONDS, error=NameNotFound)
        if last is None or not last.addresses or now >= last.stale_until:
            self._count("failed")
            return CachedName((), now + RETRY_SECONDS, error=kind)
        self._count("stale")
        if not last.is_stale:
            log.warning("name_is_stale", host=host, why=error.strerror, used_for=last.stale_until - now)
        return CachedName(last.addresses, now + RETRY_SECONDS, last.stale_until, is_stale=True)

    def _check_files(self, now: float) -> None:
        """After a change, looks every name up again; what is known serves if that fails."""
        self._next_check = now + CHECK_SECONDS
        if self._lookup.has_changed():
            self._lookups.clear()
            for name in self._names.values():
                name.fresh_until = now

    async def close(self) -> None:
        """Ends all look-ups."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lookup.close()
