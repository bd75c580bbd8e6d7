"""The way out: connectors for HTTP sessions that connect only where the egress rules let them.

The address is judged when its socket is made, so it is the one that is then connected to, whatever a name resolved to before. Connections
that a pool keeps were judged so, too; hosts of submitters and of the operator have pools of their own. The rules are `waitd.core.connections.egress`'s.
"""

import errno
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import (
    Address,
    EgressPolicy,
    EgressRefused,
    HostSource,
    ListenAddress,
    is_own_listener,
    listen_address,
)


class EgressBlocked(PermissionError):  # noqa: N818 - reads as a sentence
    """The address that a host resolved to is no target, and `why`. aiohttp wraps it; see `blocked`."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)
        self.why = why


def blocked(error: BaseException) -> EgressBlocked | None:
    """The refusal inside an error of aiohttp's, if it is one."""
    cause = getattr(error, "os_error", error)
    return cause if isinstance(cause, EgressBlocked) else None


class Outgoing:
    """The egress rules, and waitd's own listeners as they become known. One per daemon, shared by all that send anything."""

    def __init__(
        self, egress: EgressPolicy | None = None, *, resolver: Callable[[], AbstractResolver] | None = None
    ) -> None:
        """`resolver` makes what looks names up, in the running loop; default: the system's."""
        self._egress = egress or EgressPolicy()
        self._resolver = resolver
        self._listeners: tuple[ListenAddress, ...] = ()
        self._judged = lru_cache(maxsize=4096)(self._judge)

    def listens_on(self, host: str, port: int) -> None:
        """Tells that waitd itself answers there; from now on that is no target."""
        self._listeners = (*self._listeners, listen_address(host, port))
        self._judged.cache_clear()

    def judge_url(self, url: str, named: HostSource) -> HostSource:
        """Judges the host of an absolute URL by its name; returns whose connector is to be used. Cheap enough for every request.

        Raises:
            EgressRefused: no request may go there.
            ValueError: it is no URL.
        """
        end = url.find("/", 8)
        return self._judged(url if end < 0 else url[:end], named)

    def _judge(self, url: str, named: HostSource) -> HostSource:
        origin = parse_origin(url)
        return self.judge_host(origin.host, origin.port, named)

    def judge_host(self, host: str, port: int, named: HostSource) -> HostSource:
        """Judges a host by its name, for those who speak something else than HTTP there; returns as whose choice it counts.

        Raises:
            EgressRefused: no connection may be made there.
        """
        return self._egress.judge_host(host, port, named, self._listeners)

    def connector(self, named: HostSource, **options: Any) -> aiohttp.TCPConnector:
        """A connector for hosts that `judge` said so of; `options` are aiohttp's. Call it in the running loop."""

        def make_socket(info: Any) -> socket.socket:
            family, kind, protocol, _, address = info
            self._check(address[0], address[1], named)
            return socket.socket(family, kind, protocol)

        resolver = self._resolver() if self._resolver else None
        return aiohttp.TCPConnector(socket_factory=make_socket, resolver=resolver, **options)

    def _check(self, host: str, port: int, named: HostSource) -> None:
        address = ip_address(host.partition("%")[0])
        own = is_own_listener(address, port, self._listeners, _is_local)
        try:
            self._egress.judge_address(address, named, is_own=own)
        except EgressRefused as error:
            raise EgressBlocked(str(error)) from None


def _is_local(address: Address) -> bool:
    """Whether an address is this machine's own: only such a one can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
    return True
