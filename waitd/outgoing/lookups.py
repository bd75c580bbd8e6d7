"""Look-ups of host names: by c-ares, or by the system's `getaddrinfo`.

c-ares asks name servers itself, as many at a time as needed; it reads the hosts file and
`resolv.conf` (name servers, search domains, ndots). `getaddrinfo` also asks what else
`nsswitch.conf` names, such as mDNS or LDAP, and takes a thread for each look-up.
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiodns
import pycares

from waitd.outgoing.names import Addresses, Answer, LookupFailed, NameNotFound, NoDescriptor

RESOLV_CONF, HOSTS = Path("/etc/resolv.conf"), Path("/etc/hosts")
#: The most addresses of one family that are used of an answer.
MAX_ADDRESSES = 8
#: How often c-ares sends a query. It waits 0.25 s for servers that used to be fast, then twice as
#: long each time: a name that takes them seconds is found, too.
TRIES = 5
#: How long an answer of `getaddrinfo`, which names no TTL, holds, in seconds.
SYSTEM_TTL = 10.0
#: How long c-ares may remember that a name does not exist, in seconds: less than `RETRY_SECONDS`.
NEGATIVE_TTL = 2.5
#: What says that a name does not exist. An empty answer does not: the other family may have failed.
_NOT_FOUND = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_EBADNAME})
#: What a name server answers instead of an address. SERVFAIL does not count: the servers that it
#: asks are silent.
_ANSWERED = frozenset(
    {
        aiodns.error.ARES_ENOTFOUND,
        aiodns.error.ARES_ENODATA,
        aiodns.error.ARES_EREFUSED,
        aiodns.error.ARES_ENOTIMP,
        aiodns.error.ARES_EFORMERR,
    }
)


def _has_descriptor() -> bool:
    """Whether a socket can be opened: c-ares does not say why it could not ask."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno not in {errno.EMFILE, errno.ENFILE}
    return True


class ConfigurationWatch:
    """Notices that files changed, appeared, were replaced or removed."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._stamps()

    def _stamps(self) -> list[tuple[int, ...]]:
        stamps: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                stamps.append(())
            else:
                stamps.append((status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size))
        return stamps

    def has_changed(self) -> bool:
        """Whether a file differs from its state at the last call."""
        before, self._seen = self._seen, self._stamps()
        return before != self._seen


class CaresLookup:
    """Look-ups by c-ares; see `Lookup`.

    Attributes:
        limit: a look-up costs a query for each family, and no descriptor of its own.
    """

    limit = 2000
    _resolver: aiodns.DNSResolver | None = None
    _forgetting: asyncio.TimerHandle | None = None

    def __init__(
        self,
        options: dict[str, Any] | None = None,
        *,
        resolv_conf: Path = RESOLV_CONF,
        hosts: Path = HOSTS,
    ) -> None:
        """Creates look-ups.

        Args:
            options: options of `aiodns.DNSResolver` instead of what `resolv.conf` says. pycares 5.2
                frees the path of another `resolv.conf` before c-ares reads it.
            resolv_conf: when this file changes, c-ares is restarted.
            hosts: also when this one changes.
        """
        self._options = {} if options is None else options
        self._hosts = hosts
        self._watch = ConfigurationWatch(resolv_conf, hosts)

    async def find(self, host: str) -> Answer:
        """See `Lookup`."""
        try:
            resolver = self._open()  # stays open until this look-up ends, even if another replaces it
            result = await resolver.getaddrinfo(host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            self._forget_soon()
            if error.args[0] not in _NOT_FOUND and not _has_descriptor():
                raise NoDescriptor from None
            raise (NameNotFound if error.args[0] in _NOT_FOUND else LookupFailed)(error.args[1]) from None
        except (ValueError, UnicodeError):
            raise NameNotFound("the host name is malformed") from None
        except (pycares.AresError, OSError) as error:
            raise LookupFailed(f"c-ares cannot start: {error}") from None
        addresses = _usable(
            (socket.AddressFamily(node.family), _text(node.addr))
            for node in result.nodes
            if node.addr[0] != b"::1" or self._has_ipv6(host)
        )
        if not addresses:
            raise LookupFailed("the host name has no address")
        ttls = [node.ttl for node in result.nodes] + [alias.ttl for alias in result.cnames]
        return Answer(addresses, min(ttls))

    def _open(self) -> aiodns.DNSResolver:
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(**{"tries": TRIES} | self._options)
        return self._resolver

    def _forget_soon(self) -> None:
        """Empties the cache of c-ares soon: it keeps negative answers for up to an hour."""
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().call_later(NEGATIVE_TTL, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        if self._resolver is not None:
            self._resolver._channel.reinit()  # noqa: SLF001 - aiodns does not pass it on

    async def servers_answer(self) -> bool:
        """See `Lookup`. Each question is about a new name, which no cache knows.

        A name server asks no other about names below `invalid`: none exists (RFC 6761).
        """
        try:
            await self._open().query_dns(f"{uuid4().hex}.invalid", "A")
        except aiodns.error.DNSError as error:
            return error.args[0] in _ANSWERED
        except (pycares.AresError, OSError):
            return False
        return True

    def _has_ipv6(self, host: str) -> bool:
        """Whether the hosts file has the name for `::1`; if not, c-ares adds it for localhost."""
        if host.rstrip(".") != "localhost":
            return True
        try:
            lines = self._hosts.read_text(errors="replace").splitlines()
        except OSError:
            return True
        return any(line.split("#")[0].split()[:1] == ["::1"] and "localhost" in line for line in lines)

    def has_changed(self) -> bool:
        """See `Lookup`. After a change, c-ares is restarted: it would keep its answers."""
        changed = self._watch.has_changed()
        if changed:
            self._resolver = None
        return changed

    async def close(self) -> None:
        """See `Lookup`."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


class SystemLookup:
    """Look-ups by `getaddrinfo`, each in a thread of its own; see `Lookup`.

    A shared pool of threads would make every name wait for those that hang.
    """

    limit = 200

    def __init__(self) -> None:
        self._watch = ConfigurationWatch(RESOLV_CONF, HOSTS)

    async def find(self, host: str) -> Answer:
        """See `Lookup`."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Addresses] = loop.create_future()

        def finish(addresses: Addresses, error: Exception | None) -> None:
            if found.done():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses: Addresses = ()
            failure: Exception | None = None
            try:
                addresses = _system_addresses(host)
            except (OSError, UnicodeError) as error:
                failure = _system_error(error)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, addresses, failure)

        try:
            threading.Thread(target=look_up, name="getaddrinfo", daemon=True).start()
        except RuntimeError as error:
            raise LookupFailed(str(error)) from None
        return Answer(await found, SYSTEM_TTL)

    def has_changed(self) -> bool:
        """See `Lookup`."""
        return self._watch.has_changed()

    async def servers_answer(self) -> bool:
        """See `Lookup`."""
        cares = CaresLookup()
        try:
            return await cares.servers_answer()
        finally:
            await cares.close()

    async def close(self) -> None:
        """See `Lookup`. A thread that hangs ends with the process."""


def _system_addresses(host: str) -> Addresses:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return _limited((family, _text(address)) for family, *_, address in infos)


def _system_error(error: Exception) -> socket.gaierror:
    if isinstance(error, UnicodeError) or getattr(error, "errno", None) == socket.EAI_NONAME:
        return NameNotFound()
    return LookupFailed()


def _text(address: tuple[str | bytes | int, ...]) -> str:
    host = address[0]
    text = host.decode() if isinstance(host, bytes) else str(host)
    scope = int(address[3]) if len(address) > 3 else 0
    return f"{text}%{scope}" if scope and "%" not in text else text


def _limited(addresses: Iterable[tuple[socket.AddressFamily, str]]) -> Addresses:
    """The first addresses of each family, in their order."""
    taken: list[tuple[socket.AddressFamily, str]] = []
    for family, address in addresses:
        if sum(other == family for other, _ in taken) < MAX_ADDRESSES and (family, address) not in taken:
            taken.append((family, address))
    return taken


def _usable(addresses: Iterable[tuple[socket.AddressFamily, str]]) -> Addresses:
    """Those to which this machine has a route; all if it has none, so that the error says so."""
    limited = _limited(addresses)
    return [(family, address) for family, address in limited if _has_route(family, address)] or limited


def has_any_route() -> bool:
    """Whether this machine has a route to other networks: to addresses kept for documentation."""
    return _has_route(socket.AF_INET, "192.0.2.1") or _has_route(socket.AF_INET6, "2001:db8::1")


def _has_route(family: socket.AddressFamily, address: str) -> bool:
    """Connecting a datagram socket asks the routing table, and sends nothing."""
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        probe.connect((address, 53))
        return True
    return False
