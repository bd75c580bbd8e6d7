"""One GET or HEAD straight over aiohttp's own connector and parser, without the session above them.

A session builds a request object, a writer, a timer and a response object for each request, which costs several times what the exchange
itself does. Pool, DNS, TLS, flow control and the HTTP parser are the same ones either way. What this file touches that aiohttp does not
document is `ResponseHandler` and the shape of a request that `connect` reads; `tests/probes` runs the whole table of answers both ways.
"""

import asyncio
import re
from collections.abc import Mapping
from functools import cached_property
from ssl import SSLContext
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey, RequestInfo
from aiohttp.connector import Connection
from aiohttp.helpers import HeadersMixin
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

#: How many origins' routes are kept; they are made anew when there are more.
_ROUTES = 10_000
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_BREAKS = re.compile(r"[\r\n\x00]")
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

Tls = bool | SSLContext


class Reply(HeadersMixin):
    """An answer whose head is there; of `aiohttp.ClientResponse` the part that is needed."""

    def __init__(
        self, method: str, message: Any, content: aiohttp.StreamReader, connection: Connection
    ) -> None:
        self.method = method
        self.status: int = message.code
        self.reason: str = message.reason
        self.headers: CIMultiDictProxy[str] = message.headers
        self._headers = message.headers
        self.content = content
        self._connection: Connection | None = connection
        if content.is_eof():
            self._end()
        else:
            content.on_eof(self._end)

    def _end(self) -> None:
        """The body is whole: the connection is free for the next."""
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    @property
    def closed(self) -> bool:
        """Whether the connection is given back, or closed."""
        return self._connection is None

    def close(self) -> None:
        """Closes the connection unless the body was whole."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Route:
    """Where to: what the connector reads of a request, made once an origin."""

    proxy = None
    proxy_auth = None
    proxy_headers = None
    server_hostname = None
    method = "GET"
    headers = _NO_HEADERS

    def __init__(self, origin: str, tls: Tls) -> None:
        self.url = URL(origin)
        self.ssl = tls
        self.host = self.url.raw_host or ""
        self.port = self.url.port
        self.host_line = f"Host: {self.url.host_port_subcomponent}\r\n"
        self.connection_key = ConnectionKey(self.host, self.port, self.is_ssl(), tls, None, None, None)

    def is_ssl(self) -> bool:
        """Whether TLS is spoken there."""
        return self.url.scheme == "https"

    @cached_property
    def request_info(self) -> RequestInfo:
        """What aiohttp's errors carry about their request."""
        return RequestInfo(self.url, self.method, self.headers, self.url)


class Wire:
    """Asks over a connector, which its owner opens and closes."""

    def __init__(self, connector: aiohttp.BaseConnector, headers: Mapping[str, str]) -> None:
        """`headers` go with every request; a request's own win over them."""
        self._connector = connector
        self._headers = headers
        self._common = _lines(headers)
        self._routes: dict[tuple[str, Tls], Route] = {}

    async def ask(self, method: str, url: str, headers: Mapping[str, str] | None, tls: Tls) -> Reply:
        """One request without a body. A connection that the server had closed meanwhile is replaced once, as browsers do.

        Raises:
            aiohttp.ClientError, OSError: there was no complete head.
            ValueError: URL or headers cannot be sent.
        """
        origin, path = _split(url)
        route = self._routes.get((origin, tls)) or self._new_route(origin, tls)
        lines = self._common if not headers else _lines({**CIMultiDict(self._headers), **headers})
        head = f"{method} {path} HTTP/1.1\r\n{route.host_line}{lines}\r\n".encode()
        try:
            return await self._exchange(method, head, route)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
            return await self._exchange(method, head, route)

    def _new_route(self, origin: str, tls: Tls) -> Route:
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        route = self._routes[origin, tls] = Route(origin, tls)
        return route

    async def _exchange(self, method: str, head: bytes, route: Route) -> Reply:
        connection = await self._connector.connect(cast("ClientRequest", route), [], _NO_TIMEOUT)
        try:
            protocol, transport = _ends(connection)
            protocol.set_response_params(
                skip_payload=method == "HEAD", read_until_eof=True, auto_decompress=False
            )
            transport.write(head)
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    return Reply(method, message, content, connection)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(route.request_info, (), status=error.code) from error
        except BaseException:
            connection.close()
            raise


def _ends(connection: Connection) -> tuple[ResponseHandler, asyncio.Transport]:
    protocol = connection.protocol
    if protocol is None or protocol.transport is None:
        raise aiohttp.ClientConnectionResetError("the connection was closed as it was taken")
    return protocol, protocol.transport


def _split(url: str) -> tuple[str, str]:
    """Origin and path of an encoded URL. Raises ValueError where the path cannot stand in a request line."""
    start = url.index("://") + 3
    end = len(url)
    for separator in "/?#":
        found = url.find(separator, start, end)
        if found >= 0:
            end = found
    path = url[end:].partition("#")[0]
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("a URL that is not encoded")
    return url[:end], path if path.startswith("/") else "/" + path


def _lines(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if _BREAKS.search(name + value):
            raise ValueError("a control character in a header")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
