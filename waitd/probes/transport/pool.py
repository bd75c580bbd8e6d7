"""A pool of kept-alive connections for GET and HEAD.

aiohttp's connector opens the connections (DNS, TLS, egress rules) and `Http1Connection` speaks on
them, instead of an aiohttp session: a session builds a request, a writer, a timer and a response
object for each request, which costs many times the exchange itself.

This relies on two undocumented parts of aiohttp: what `connect` reads of a request, and the
`ResponseHandler` that it returns. The tests run every answer over both transports.
"""

import asyncio
import errno
import math
from collections.abc import Callable, Iterator, Mapping
from ssl import SSLContext
from typing import Any, cast

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from multidict import CIMultiDict
from yarl import URL

from waitd.core.connections.auth import basic_authorization
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, proxy_login, proxy_name
from waitd.outgoing import IdleConnections
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.response import Http1Response, OnResponse
from waitd.probes.transport.turns import WriteCoalescer

#: How many routes the pool keeps; above that it drops those without an idle connection.
_MAX_ROUTES = 10_000
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
#: The errors of a reused connection that the server closed before it read the request.
CLOSED_WHILE_IDLE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)

Tls = bool | SSLContext

#: The errors for which idle connections are closed, to get descriptors.
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
#: Seconds between two checks for connections that their server is about to close.
_SWEEP_SECONDS = 1.0


class PreparedHeaders(CIMultiDict[str]):
    """Headers of many requests, serialized once."""

    lines: str | None = None


class Route:
    """An origin with its idle connections, in the form in which the connector reads a request."""

    proxy_auth = None
    proxy_headers = None
    server_hostname = None
    method = "GET"

    def __init__(self, origin: str, tls: Tls, pool: "ConnectionPool", proxy: str | None = None) -> None:
        self._pool = pool
        self._time = pool.time
        self.url = URL(origin)
        self.ssl = tls
        self.host = self.url.raw_host or ""
        self.port = self.url.port
        host = self.url.host_port_subcomponent or ""
        self.host_line = f"Host: {host}\r\n"
        self.proxy = None if proxy is None else URL(proxy, encoded=True)
        self.proxy_name = "" if proxy is None else proxy_name(proxy)
        #: What precedes the path: the origin, if a proxy reads the request.
        self.prefix = ""
        self.headers = CIMultiDict(Host=host)
        if proxy is not None and not self.is_ssl():
            self.prefix = f"http://{host}"
            if login := proxy_login(proxy):
                self.host_line += f"Proxy-Authorization: {basic_authorization(*login)}\r\n"
        self.connection_key = ConnectionKey(self.host, self.port, self.is_ssl(), tls, self.proxy, None, None)
        #: The most recently used connection comes last.
        self.idle: list[Http1Connection] = []
        self._open: set[Http1Connection] = set()
        self._all_idle = pool.all_idle
        self._share = pool.all_idle.share(tls=self.is_ssl())
        #: Whether the pool still has this route; if not, its connections are closed after use.
        self.kept = True

    def is_ssl(self) -> bool:
        """Whether the origin speaks TLS."""
        return self.url.scheme == "https"

    def take_idle(self) -> Http1Connection | None:
        """Takes the most recently used idle connection; None when there is none."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.lost:
                return connection
        return None

    def add_idle(self, connection: Http1Connection) -> None:
        """Keeps a connection for another request."""
        if not self.kept:
            connection.close()
            return
        connection.idle_since = self._time()
        self.idle.append(connection)
        if self._all_idle.exceeded:
            self._all_idle.trim()

    def add(self, connection: Http1Connection) -> None:
        """Counts a new connection."""
        self._open.add(connection)
        self._all_idle.add(self._share)

    def remove(self, connection: Http1Connection) -> None:
        """Forgets a connection that is closing or closed."""
        if connection in self._open:
            self._open.remove(connection)
            self._all_idle.add(-self._share)
            if connection in self.idle:
                self.idle.remove(connection)

    def has_limited(self) -> bool:
        """Whether a server said for how long it keeps one of the connections, idle or in use."""
        return any(connection.keep_alive < math.inf for connection in self._open)

    def on_keep_alive(self) -> None:
        """A server said for how long it keeps a connection."""
        self._pool.schedule_sweep()


class ConnectionPool:
    """Sends requests without a body on kept-alive connections.

    The owner opens and closes the connector; close the pool first. A pool belongs to one loop.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        headers: Mapping[str, str],
        *,
        all_idle: IdleConnections | None = None,
        choose_proxy: Callable[[str, Proxies], str | None] = lambda _url, _own: None,
    ) -> None:
        """Creates a pool in the running loop.

        Args:
            connector: opens the connections.
            headers: sent with every request, unless the request has its own value.
            all_idle: bounds the idle connections of several pools; default: of this one.
            choose_proxy: returns the proxy of a URL, given those of its connection.
        """
        self._connector = connector
        self._headers = headers
        self._common = _lines(headers)
        self._names = frozenset(map(str.lower, headers))
        self._choose_proxy = choose_proxy
        self._routes: dict[tuple[str, Tls, Proxies], Route] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._coalescer = WriteCoalescer()
        self.time = self._coalescer.loop.time
        self.all_idle = all_idle or IdleConnections()
        self.all_idle.add_owner(self)

    def send(  # noqa: PLR0917 - keywords cost time, and every poke calls it
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        tls: Tls,
        on_response: OnResponse,
        proxies: Proxies = DEFAULT_PROXIES,
    ) -> Http1Connection | None:
        """Sends a request on an idle connection; None when there is none, and nothing is sent.

        When `on_response` gets one of `CLOSED_WHILE_IDLE`, repeat the request on a new connection.

        Raises:
            ValueError: the URL or a header is malformed.
        """
        route, request = self._prepare(method, url, headers, tls, proxies)
        connection = route.take_idle()
        if connection is not None:
            connection.send(method, request, on_response)
        return connection

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        tls: Tls,
        proxies: Proxies = DEFAULT_PROXIES,
        *,
        new_connection: bool = False,
    ) -> Http1Response:
        """Sends a request and waits for the head of the response.

        It opens a connection when none is idle, when the server closed the idle one, and with
        `new_connection`.

        Raises:
            aiohttp.ClientError, OSError: there is no complete head.
            ValueError: the URL or a header is malformed.
        """
        route, request = self._prepare(method, url, headers, tls, proxies)
        connection = None if new_connection else route.take_idle()
        if connection is not None:
            try:
                return await _response_of(connection, method, request)
            except CLOSED_WHILE_IDLE:
                pass  # the server may have closed the other idle connections, too
        return await _response_of(await self._connect(route), method, request)

    def _prepare(
        self, method: str, url: str, headers: Mapping[str, str] | None, tls: Tls, proxies: Proxies
    ) -> tuple[Route, bytes]:
        origin, path = _split(url)
        route = self._routes.get((origin, tls, proxies)) or self._new_route(origin, tls, proxies)
        lines = self._lines_of(headers) if headers else self._common
        return route, f"{method} {route.prefix}{path} HTTP/1.1\r\n{route.host_line}{lines}\r\n".encode()

    async def _connect(self, route: Route) -> Http1Connection:
        request = cast("ClientRequest", route)
        try:
            connection = await self._connector.connect(request, [], _NO_TIMEOUT)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or not self.all_idle.trim(abort=True):
                raise
            for _ in range(2):  # the loop closes them in its next turn
                await asyncio.sleep(0)
            connection = await self._connector.connect(request, [], _NO_TIMEOUT)
        made = Http1Connection(connection, route, self._coalescer)
        route.add(made)
        return made

    def _lines_of(self, headers: Mapping[str, str]) -> str:
        if type(headers) is not PreparedHeaders:
            return self._other_common(headers) + _lines(headers)
        if headers.lines is None:
            headers.lines = self._other_common(headers) + _lines(headers)
        return headers.lines

    def _other_common(self, headers: Mapping[str, str]) -> str:
        """The lines of the common headers that `headers` does not replace."""
        if self._names.isdisjoint(map(str.lower, headers)):
            return self._common
        own = CIMultiDict(headers)
        return _lines({name: value for name, value in self._headers.items() if name not in own})

    def _new_route(self, origin: str, tls: Tls, proxies: Proxies) -> Route:
        proxy = self._choose_proxy(origin, proxies)
        if len(self._routes) >= _MAX_ROUTES:
            for route in self._routes.values():
                route.kept = bool(route.idle)
            self._routes = {key: route for key, route in self._routes.items() if route.kept}
        route = self._routes[origin, tls, proxies] = Route(origin, tls, self, proxy)
        return route

    def idle_connections(self) -> Iterator[Http1Connection]:
        """See `IdleOwner`."""
        for route in self._routes.values():
            yield from route.idle

    def schedule_sweep(self) -> None:
        """Starts to check for connections that their server is about to close."""
        if self._sweep is None and not self._closed:
            self._sweep = self._coalescer.loop.call_later(_SWEEP_SECONDS, self._close_expired)

    def _close_expired(self) -> None:
        self._sweep, now = None, self.time()
        for connection in list(self.idle_connections()):
            if connection.idle_since + connection.keep_alive < now:
                connection.close_idle()
        if any(route.has_limited() for route in self._routes.values()):
            self.schedule_sweep()

    def close(self) -> None:
        """Closes the idle connections."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.idle_connections()):
            connection.close_idle()
        self.all_idle.remove_owner(self)


class _ResponseFuture(asyncio.Future[Http1Response]):
    """The response to a request; cancelling it cancels the request before it is written."""

    def __init__(self, connection: Http1Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._connection = connection

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self._connection.cancel()
        return super().cancel(msg)

    def resolve(self, result: Http1Response | Exception) -> None:
        """Sets the result; an `OnResponse`."""
        if isinstance(result, Exception):
            self.set_exception(result)
        else:
            self.set_result(result)


async def _response_of(connection: Http1Connection, method: str, request: bytes) -> Http1Response:
    """Sends a request; the connection is closed when the request fails or is cancelled."""
    if connection.lost:
        raise aiohttp.ServerDisconnectedError
    response = _ResponseFuture(connection, asyncio.get_running_loop())
    connection.send(method, request, response.resolve)
    try:
        return await response
    except asyncio.CancelledError:
        if not response.cancelled() and response.exception() is None:
            response.result().close()  # it arrived in the same turn; other requests may use the connection
        raise
    finally:
        del response  # it holds the exception, whose traceback holds this frame: a reference cycle


def _split(url: str) -> tuple[str, str]:
    """Splits an encoded URL into origin and path.

    Raises:
        ValueError: the path contains a character that a request line cannot have.
    """
    end = url.find("/", len("https://"))
    origin, path = (url, "/") if end < 0 else (url[:end], url[end:])
    if "?" in origin or "#" in origin:  # the URL has no path; the slash is part of the query
        end = min(at for at in (url.find("?"), url.find("#")) if at >= 0)
        origin, path = url[:end], "/" + url[end:]
    if "#" in path:
        path = path.partition("#")[0]
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("the URL is not percent-encoded")
    return origin, path


def _lines(headers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    text = "".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) or "\0" in text:
        raise ValueError("a header contains a control character")
    return text
