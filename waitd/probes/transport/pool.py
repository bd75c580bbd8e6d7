"""GET and HEAD past aiohttp's session: its connector makes the connections (DNS, TLS, egress rules), `exchange` speaks on them.

A session builds a request object, a writer, a timer and a response object for each request, and a stream for each body, which costs
many times what the exchange itself does. What this touches that aiohttp does not document is the shape of a request that `connect`
reads and the `ResponseHandler` that it gives; `tests/probes` runs the whole table of answers both ways.
"""

import asyncio
from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import cast

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from waitd.probes.transport.connection import Http1Connection, Http1Response, OnResponse, WriteCoalescer

#: How many origins' routes are kept; those without a connection go when there are more.
_ROUTES = 10_000
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
#: What is raised where a connection that was used again turns out to be closed: by the server, before it read the request.
CLOSED_WHILE_IDLE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

Tls = bool | SSLContext


class PreparedHeaders(CIMultiDict[str]):
    """Headers that go with many requests: their lines are made once."""

    lines: str | None = None


class Route:
    """Where to: what the connector reads of a request, made once an origin, and the connections there that are free."""

    proxy = None
    proxy_auth = None
    proxy_headers = None
    server_hostname = None
    method = "GET"
    headers = _NO_HEADERS

    def __init__(self, origin: str, tls: Tls, time: Callable[[], float]) -> None:
        """`time`: the loop's."""
        self._time = time
        self.url = URL(origin)
        self.ssl = tls
        self.host = self.url.raw_host or ""
        self.port = self.url.port
        self.host_line = f"Host: {self.url.host_port_subcomponent}\r\n"
        self.connection_key = ConnectionKey(self.host, self.port, self.is_ssl(), tls, None, None, None)
        #: The one that was used last at the end.
        self.idle: list[Http1Connection] = []
        #: Whether it is kept: what it makes free is used again.
        self.kept = True

    def is_ssl(self) -> bool:
        """Whether TLS is spoken there."""
        return self.url.scheme == "https"

    def free(self) -> Http1Connection | None:
        """A connection that may be used again; None where there is none."""
        while self.idle:
            exchange = self.idle.pop()
            if not exchange.lost:
                return exchange
        return None

    def spare(self, exchange: Http1Connection) -> None:
        """The connection is free for another request."""
        if not self.kept:
            exchange.close()
            return
        exchange.idle_since = self._time()
        self.idle.append(exchange)

    def close_idle(self, since: float) -> None:
        """Closes what was last used before `since`, in the loop's time, or was lost."""
        kept = []
        for exchange in self.idle:
            if not exchange.lost and exchange.idle_since >= since:
                kept.append(exchange)
            else:
                exchange.close()
        self.idle = kept


class ConnectionPool:
    """Asks over a connector, which its owner opens and closes. Use it in one loop; `close` it before the connector."""

    def __init__(
        self, connector: aiohttp.BaseConnector, headers: Mapping[str, str], *, keepalive: float = 30.0
    ) -> None:
        """Call it in the loop. `headers` go with every request, a request's own win over them; `keepalive`: seconds that an idle connection is kept."""
        self._connector = connector
        self._headers = headers
        self._common = _lines(headers)
        self._names = frozenset(map(str.lower, headers))
        self._keepalive = keepalive
        self._routes: dict[tuple[str, Tls], Route] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._departures = WriteCoalescer()

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None, tls: Tls, *, anew: bool = False
    ) -> Http1Response:
        """One request without a body. A connection that the server had closed meanwhile is replaced, as browsers do; `anew`: it was.

        Raises:
            aiohttp.ClientError, OSError: there was no complete head.
            ValueError: URL or headers cannot be sent.
        """
        route, request = self._prepared(method, url, headers, tls)
        exchange = None if anew else route.free()
        if exchange is not None:
            try:
                return await exchange.ask(method, request)
            except CLOSED_WHILE_IDLE:
                pass  # the others may be as old
            except BaseException:
                exchange.close()
                raise
        return await self._ask_anew(method, request, route)

    def begin(
        self, method: str, url: str, headers: Mapping[str, str] | None, tls: Tls, told: OnResponse
    ) -> Http1Connection | None:
        """One request without a body, on a connection that is free; what comes of it is told. None: there is no such connection, `ask`.

        Where it is told of `CLOSED_WHILE_IDLE`, `ask` anew.

        Raises:
            ValueError: URL or headers cannot be sent.
        """
        route, request = self._prepared(method, url, headers, tls)
        exchange = route.free()
        if exchange is not None:
            exchange.begin(method, request, told)
        return exchange

    def _prepared(
        self, method: str, url: str, headers: Mapping[str, str] | None, tls: Tls
    ) -> tuple[Route, bytes]:
        origin, path = _split(url)
        route = self._routes.get((origin, tls)) or self._new_route(origin, tls)
        lines = self._lines_of(headers) if headers else self._common
        return route, f"{method} {path} HTTP/1.1\r\n{route.host_line}{lines}\r\n".encode()

    async def _ask_anew(self, method: str, request: bytes, route: Route) -> Http1Response:
        connection = await self._connector.connect(cast("ClientRequest", route), [], _NO_TIMEOUT)
        exchange = Http1Connection(connection, route.spare, self._departures)
        if self._sweep is None:
            self._sweep_later()
        try:
            return await exchange.ask(method, request)
        except BaseException:
            exchange.close()
            raise

    def _lines_of(self, headers: Mapping[str, str]) -> str:
        if type(headers) is not PreparedHeaders:
            return self._beside(headers) + _lines(headers)
        if headers.lines is None:
            headers.lines = self._beside(headers) + _lines(headers)
        return headers.lines

    def _beside(self, headers: Mapping[str, str]) -> str:
        """The lines of the common headers that these do not replace."""
        if self._names.isdisjoint(map(str.lower, headers)):
            return self._common
        own = CIMultiDict(headers)
        return _lines({name: value for name, value in self._headers.items() if name not in own})

    def _new_route(self, origin: str, tls: Tls) -> Route:
        if len(self._routes) >= _ROUTES:
            for route in self._routes.values():
                route.kept = bool(route.idle)
            self._routes = {key: route for key, route in self._routes.items() if route.kept}
        route = self._routes[origin, tls] = Route(origin, tls, self._departures.loop.time)
        return route

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._keepalive / 2, self._sweep_idle)

    def _sweep_idle(self) -> None:
        since = asyncio.get_running_loop().time() - self._keepalive
        for route in self._routes.values():
            if route.idle:
                route.close_idle(since)
        self._sweep_later()

    def close(self) -> None:
        """Closes the connections that are free."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for route in self._routes.values():
            route.close_idle(float("inf"))


def _split(url: str) -> tuple[str, str]:
    """Origin and path of an encoded URL. Raises ValueError where the path cannot stand in a request line."""
    end = url.find("/", len("https://"))
    origin, path = (url, "/") if end < 0 else (url[:end], url[end:])
    if "?" in origin or "#" in origin:  # no path, and perhaps a slash in the query
        end = min(at for at in (url.find("?"), url.find("#")) if at >= 0)
        origin, path = url[:end], "/" + url[end:]
    if "#" in path:
        path = path.partition("#")[0]
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("a URL that is not encoded")
    return origin, path


def _lines(headers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    text = "".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) or "\0" in text:
        raise ValueError("a control character in a header")
    return text
