"""An event loop with the daemon's `CachingResolver`, for libraries that connect by name.

The clients of databases and brokers call `create_connection` with a host name. asyncio and uvloop
would look it up in a few threads, which names that hang occupy.
"""

import asyncio
import socket
from typing import Any

from aiohappyeyeballs import start_connection

from waitd.core.connections.addresses import parse_address
from waitd.outgoing.names import CachingResolver

#: Seconds after which the next address is tried besides the last (RFC 8305).
ATTEMPT_DELAY = 0.25
#: What `getaddrinfo` is asked for that `CachingResolver` does not know.
_OTHER_FLAGS = socket.AI_PASSIVE | socket.AI_CANONNAME | socket.AI_NUMERICHOST


class ResolverLoop(asyncio.AbstractEventLoop):
    """The base of an event loop, before the class of the loop itself.

    Attributes:
        resolver: None: names are looked up as the loop itself does.
    """

    resolver: CachingResolver | None = None

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """See `asyncio.loop.getaddrinfo`."""
        family, flags = options.get("family", 0), options.get("flags", 0)
        resolver = self.resolver
        if resolver is None or not _is_name(host) or not isinstance(port, int) or flags & _OTHER_FLAGS:
            return await super().getaddrinfo(host, port, **options)
        kind = options.get("type") or socket.SOCK_STREAM
        found = await resolver.resolve(host, port, family)
        return [
            (each["family"], kind, options.get("proto", 0), "", _socket_address(each["host"], port))
            for each in found
        ]

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """See `asyncio.loop.create_connection`."""
        if self.resolver is None or not _is_name(host) or not port or options.get("local_addr"):
            return await super().create_connection(protocol_factory, host, port, **options)
        family = options.pop("family", 0)
        for option in ("proto", "flags", "happy_eyeballs_delay", "interleave", "all_errors", "local_addr"):
            options.pop(option, None)
        infos = await self.getaddrinfo(host, int(port), family=family, type=socket.SOCK_STREAM)
        sock = await start_connection(infos, loop=self, happy_eyeballs_delay=ATTEMPT_DELAY, interleave=1)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        return await super().create_connection(protocol_factory, sock=sock, **options)


def _is_name(host: Any) -> bool:
    return isinstance(host, str) and bool(host) and parse_address(host) is None


def _socket_address(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    return (host, port, 0, 0) if ":" in host else (host, port)
