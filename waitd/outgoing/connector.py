"""Connectors for HTTP sessions that connect only where the egress rules allow.

An address is checked when its socket is made. So the socket connects to the address that was
checked, whatever the name resolved to before. A pooled connection was checked when it was opened.
The hosts that submitters name and those that the operator names have separate pools.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from waitd.core.connections.addresses import Address
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import (
    EgressPolicy,
    EgressRefused,
    HostSource,
    ListenAddress,
    is_own_listener,
    listen_address,
)
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, choose_proxy, proxy_secrets
from waitd.outgoing.aiohttp_connector import TO_PROXY, Connector
from waitd.outgoing.errors import AddressRefused
from waitd.outgoing.idle import IdleConnections
from waitd.outgoing.lookups import CaresLookup
from waitd.outgoing.names import CachingResolver
from waitd.outgoing.tls_sessions import TlsContexts

#: How many descriptors are a reserve; a quarter of a low limit.
RESERVED_DESCRIPTORS = 64
#: TCP keepalive: probes after 30 idle seconds, every 10 s; the third without an answer is the last.
#: They also keep the entry of a NAT or firewall alive.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
#: A session keeps idle connections to `max_idle_connections`, divided by this, origins.
_SESSIONS_PART = 8


class EgressGuard:
    """Lets requests go only where the egress rules allow, and never to waitd's own listeners.

    One per daemon, shared by everything that sends requests.
    """

    def __init__(
        self,
        policy: EgressPolicy | None = None,
        *,
        resolver: Callable[[], AbstractResolver] | None = None,
        tls: TlsContexts | None = None,
        idle: IdleConnections | None = None,
        proxies: Proxies = DEFAULT_PROXIES,
    ) -> None:
        """Apply `policy`, by default only the rules that always hold.

        Args:
            policy: the rules of the operator.
            resolver: returns the resolver of names, in the running loop; default: one that only
                this guard uses.
            tls: what all TLS has in common; default: as with the default settings.
            idle: bounds the idle connections; default: as with the default settings.
            proxies: those of the environment; default: none.
        """
        self.proxies = proxies
        self.proxy_secrets = tuple(proxy_secrets(proxies))
        self.tls = tls or TlsContexts()
        self.idle = idle or IdleConnections()
        self._policy = policy or EgressPolicy()
        self._resolver = resolver
        self._listeners: tuple[ListenAddress, ...] = ()
        self._check_origin = lru_cache(maxsize=4096)(self._check_origin_uncached)
        self._choose_proxy = lru_cache(maxsize=4096)(self._choose_proxy_uncached)

    def add_listener(self, host: str, port: int) -> None:
        """Register an address that waitd listens on; it is blocked from now on."""
        self._listeners = (*self._listeners, listen_address(host, port))
        self._check_origin.cache_clear()

    def check_url(self, url: str, source: HostSource) -> HostSource:
        """Check an absolute URL's host by its name; return the source whose connector to use.

        That is `source`, or OPERATOR for a host that the operator allows by name. The result per
        origin is cached, so every request can be checked.

        Raises:
            EgressRefused: no request may go there.
            ValueError: it is not a URL.
        """
        end = url.find("/", len("https://"))
        return self._check_origin(url if end < 0 else url[:end], source)

    def _check_origin_uncached(self, url: str, source: HostSource) -> HostSource:
        origin = parse_origin(url)
        return self.check_host(origin.host, origin.port, source)

    def proxy(self, url: str, own: Proxies = DEFAULT_PROXIES) -> str | None:
        """The URL of the proxy for requests to an absolute URL, with its credentials; None: none.

        `own` are the proxies of the request's connection. The result per origin is cached.

        Raises:
            ValueError: it is not a URL.
        """
        end = url.find("/", len("https://"))
        return self._choose_proxy(url if end < 0 else url[:end], own)

    def _choose_proxy_uncached(self, url: str, own: Proxies) -> str | None:
        return choose_proxy(parse_origin(url), own, self.proxies)

    def check_host(self, host: str, port: int, source: HostSource) -> HostSource:
        """Check a host by its name, for protocols other than HTTP; returns as `check_url`.

        Raises:
            EgressRefused: no connection may be made there.
        """
        return self._policy.check_host(host, port, source, self._listeners)

    def connector(self, source: HostSource, *, reserves: int = 1, **options: Any) -> aiohttp.TCPConnector:
        """A connector for the hosts for which `check_url` returned `source`.

        `options` are those of `aiohttp.TCPConnector`; `reserves`: see `highest_descriptor`.

        Call it in the running loop.
        """
        highest = highest_descriptor(reserves)

        def make_socket(info: Any) -> socket.socket:
            family, kind, protocol, _, address = info
            # The operator names the proxies. The target was checked by its name.
            self._check_address(address[0], address[1], HostSource.OPERATOR if TO_PROXY.get() else source)
            return keep_alive(within_descriptors(socket.socket(family, kind, protocol), highest))

        return Connector(
            self.tls,
            max_idle=self.idle.max_connections // _SESSIONS_PART,
            socket_factory=make_socket,
            resolver=self._resolver() if self._resolver else self._own_resolver,
            **options | {"use_dns_cache": False},
        )

    @cached_property
    def _own_resolver(self) -> CachingResolver:
        return CachingResolver(CaresLookup())

    def _check_address(self, host: str, port: int, source: HostSource) -> None:
        address = ip_address(host.partition("%")[0])
        own = is_own_listener(address, port, self._listeners, _is_local)
        try:
            self._policy.check_address(address, source, is_own=own)
        except EgressRefused as error:
            raise AddressRefused(str(error)) from None


def highest_descriptor(reserves: int) -> int:
    """The number from which on descriptors are kept: one reserve for the store, the API and the
    log; pokes, which keep idle connections, leave a second one to deliveries.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - reserves * min(RESERVED_DESCRIPTORS, limit // 4)


def within_descriptors(made: socket.socket, highest: int) -> socket.socket:
    """The socket itself, unless its number is one of those that are kept.

    The system gives out the lowest free number, so a high one says how many are in use.

    Raises:
        OSError: EMFILE, as if none was left.
    """
    if made.fileno() < highest:
        return made
    made.close()
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def keep_alive(made: socket.socket) -> socket.socket:
    """Makes a socket notice within a minute that its peer is gone; returns it."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _is_local(address: Address) -> bool:
    """Whether an address belongs to this machine: only such an address can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
