"""HTTP requests for probes: sent often, with small answers, within limits.

A client follows redirects within the origin, stops reading a body at a limit, and keeps connections
alive. It knows neither waits nor conditions.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Self

import aiohttp
from msgspec import Struct
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from waitd import __version__
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import HostSource
from waitd.core.connections.http_options import DEFAULT_REDIRECTS
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, note_proxy, proxy_name
from waitd.core.connections.sent_secrets import mask_with_cookies, mask_with_query
from waitd.core.http.answer import AnswerFacts
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing import AnswerTooLarge, EgressGuard, ProxyFailed, drain_body, read_body
from waitd.outgoing.answer_limits import READ_AHEAD, repeat_if_closed
from waitd.outgoing.errors import PROXY_REFUSES, describe_refusing_proxy
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.errors import classify_error
from waitd.probes.transport.facts import Response, facts_of
from waitd.probes.transport.pool import ConnectionPool
from waitd.probes.transport.redirects import REDIRECTS, ChainCookies, resolve_location
from waitd.probes.transport.response import Http1Response, OnResponse

#: The methods whose requests use the connection pool instead of a session.
POOLED_METHODS = frozenset({"GET", "HEAD"})
#: The methods whose requests may change something when they are sent twice.
_CHANGING = frozenset({"POST", "PATCH"})
#: To keep a connection, an unread body of up to this many bytes is read, for up to this many
#: seconds; that of a redirect is shorter, since a chain has several.
_DRAIN_BYTES = 64 * 1024
_DRAIN_REDIRECT_BYTES = 8 * 1024
_DRAIN_SECONDS = 0.25
#: The most bytes that the redirects of a chain have together: five of the largest heads, or about
#: what is received of a single redirect that never ends.
MAX_CHAIN = 320 * 1024

#: The errors of a request that its proxy may have caused, and its cancellation.
_IN_TRANSIT = (aiohttp.ClientError, OSError, asyncio.CancelledError)

_HEADERS = {"User-Agent": f"waitd/{__version__}", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


# Requests and answers are msgspec structs, because every poke makes one of each.
class Request(Struct, frozen=True):
    """A request.

    Attributes:
        url: percent-encoded.
        headers: may carry credentials, which are sent to the URL's origin only.
        verify_tls: whether to verify certificates, or the context to verify them with.
        named: who chose the host.
        mask: masks in the answer what the request carries; None if it carries no secret.
        proxies: those of its connection.
        safe: the request only reads, so that it may be sent twice, whatever its method.
    """

    method: str
    url: str
    headers: Mapping[str, str] | None
    body: bytes | None
    verify_tls: bool | ssl.SSLContext
    named: HostSource = HostSource.SUBMITTER
    mask: SecretMask | None = None
    proxies: Proxies = DEFAULT_PROXIES
    safe: bool = False


class HttpAnswer(Struct, frozen=True):
    """A response with its head. Pass it to `HttpClient.release` unless its body is read.

    `request` is the last one: where redirects led.
    """

    facts: AnswerFacts
    response: "Response"
    request: Request


class HttpClient:
    """Sends requests. Hosts named by submitters and by the operator share no connection.

    The calls have no timeout: the caller limits their time and cancels them.
    """

    def __init__(self, *, egress: EgressGuard | None = None, pooled: bool = True, kept: bool = True) -> None:
        """Creates a client, which `start` opens.

        Args:
            egress: enforces the egress rules; default: the rules that always hold.
            pooled: send GET and HEAD through the connection pool, at a third of a session's cost.
            kept: keep idle connections; if not, each request opens a new one.
        """
        self._egress = egress or EgressGuard()
        self._pooled = pooled
        self._kept = kept
        self._sessions: dict[HostSource, aiohttp.ClientSession] = {}
        self._pools: dict[HostSource, ConnectionPool] = {}

    async def start(self) -> Self:
        """Opens the sessions and pools."""
        for named in HostSource:
            # The poker limits how many requests are in flight, and to which origins.
            connector = self._egress.connector(
                named, reserves=2, limit=0, limit_per_host=0, force_close=not self._kept
            )
            self._sessions[named] = _open_session(connector)
            if self._pooled:
                self._pools[named] = ConnectionPool(
                    connector, _HEADERS, all_idle=self._egress.idle, choose_proxy=self._egress.proxy
                )
        return self

    async def close(self) -> None:
        """Closes the sessions, the pools and their connections."""
        sessions, pools = self._sessions, self._pools
        self._sessions, self._pools = {}, {}
        for pool in pools.values():
            pool.close()
        for session in sessions.values():
            await session.close()

    def send(self, request: Request, on_response: OnResponse) -> Http1Connection | None:
        """Sends a request on an idle connection of the pool; the result cancels it.

        None when that is impossible, and nothing is sent: use `fetch`. `fetch` also continues when
        `on_response` gets a redirect, or one of `CLOSED_WHILE_IDLE`.

        Raises:
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        named = request.named
        pool = self._pools.get(named)
        if pool is None or request.body is not None or request.method not in POOLED_METHODS:
            return None
        if self._egress.check_url(request.url, named) is not named:
            return None
        return pool.send(
            request.method, request.url, request.headers, request.verify_tls, on_response, request.proxies
        )

    async def fetch(
        self,
        request: Request,
        now: float,
        *,
        new_connection: bool = False,
        max_redirects: int | None = DEFAULT_REDIRECTS,
    ) -> HttpAnswer:
        """Sends a request and follows redirects within its origin.

        Args:
            request: the request.
            now: Unix seconds, for `Retry-After` dates.
            new_connection: whether to use no idle connection.
            max_redirects: None: a redirect is the answer.

        Raises:
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        named = self._egress.check_url(request.url, request.named)
        if named is not request.named:
            request = replace(request, named=named)
        try:
            response = await self._request(request, new_connection=new_connection)
            return await self.follow_redirects(request, response, now, max_redirects)
        except _IN_TRANSIT as error:
            note_proxy(error, self._egress.proxy(request.url, request.proxies))
            raise

    async def follow_redirects(
        self, request: Request, response: Response, now: float, max_redirects: int | None
    ) -> HttpAnswer:
        """Returns the answer to a request with this first response; see `fetch`."""
        redirects = received = 0
        cookies: ChainCookies | None = None
        while max_redirects is not None and response.status in REDIRECTS and "Location" in response.headers:
            facts = facts_of(response, now)
            try:
                url, origin = resolve_location(request.url, response.headers["Location"])
            except ValueError:
                # no usable Location: as any other 3xx
                return HttpAnswer(facts, response, request)
            if origin != parse_origin(request.url):
                return HttpAnswer(facts._replace(redirect_origin=str(origin)), response, request)
            if redirects == max_redirects:
                return HttpAnswer(facts._replace(redirect_loop=True), response, request)
            redirects += 1
            if _becomes_get(facts.status, request.method):
                headers = CIMultiDict(request.headers or ())
                headers.popall("Content-Type", None)
                request = replace(request, method="GET", body=None, headers=headers)
            set_cookies = response.headers.getall("Set-Cookie", ())
            if set_cookies:
                cookies = cookies or ChainCookies((request.headers or {}).get("Cookie"))
                cookies.keep(set_cookies, request.url)
            request = replace(request, url=url, mask=mask_with_query(request.mask, url))
            if cookies is not None:
                request = _with_cookies(request, cookies.header(url))
            await self.release(response, _DRAIN_REDIRECT_BYTES)
            received += _received(response)
            if received > MAX_CHAIN:
                raise AnswerTooLarge("the redirects have too many bytes")
            response = await self._request(request)
        return HttpAnswer(facts_of(response, now), response, request)

    async def fetch_once(self, request: Request, now: float, *, connect_timeout: float) -> HttpAnswer:
        """Sends a request through a session, and follows no redirect.

        Raises:
            ClosedWhileIdle: see `repeat_if_closed`.
            aiohttp.ConnectionTimeoutError: there was no connection after `connect_timeout` seconds.
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        named = self._egress.check_url(request.url, request.named)
        try:
            response = await self._request_by_session(replace(request, named=named), connect_timeout)
        except _IN_TRANSIT as error:
            note_proxy(error, self._egress.proxy(request.url, request.proxies))
            raise
        return HttpAnswer(facts_of(response, now), response, request)

    def _request(self, request: Request, *, new_connection: bool = False) -> Awaitable[Response]:
        method, pool = request.method, self._pools.get(request.named)
        if pool is not None and request.body is None and method in POOLED_METHODS:
            return pool.request(
                method,
                request.url,
                request.headers,
                request.verify_tls,
                request.proxies,
                new_connection=new_connection,
            )
        if request.safe or method not in _CHANGING:
            return repeat_if_closed(partial(self._request_by_session, request))
        return self._request_by_session(request)

    async def _request_by_session(
        self, request: Request, connect_timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        proxy = self._egress.proxy(request.url, request.proxies)
        response = await self._session(request.named).request(
            request.method,
            URL(request.url, encoded=True),
            headers=request.headers,
            data=request.body,
            ssl=request.verify_tls,
            allow_redirects=False,
            proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
        )
        if response.status == PROXY_REFUSES and proxy is not None:
            response.close()
            raise ProxyFailed(describe_refusing_proxy(proxy_name(proxy), PROXY_REFUSES))
        return response

    def verdict_of(self, error: Exception, request: Request | None) -> Unreachable:
        """The verdict on the error of a request; it names a proxy that may be the cause."""
        proxy = None if request is None else self._egress.proxy(request.url, request.proxies)
        return classify_error(error, proxy)

    def _session(self, named: HostSource) -> aiohttp.ClientSession:
        session = self._sessions.get(named)
        if session is None:
            raise RuntimeError("the HTTP client is not started; call start() first")
        return session

    @staticmethod
    async def read(response: Response, limit: int) -> bytes | None:
        """Reads and decodes the body; None when it has more than `limit` bytes.

        Raises:
            aiohttp.ClientError, OSError: the body is incomplete or cannot be decoded.
        """
        encodings = response.headers.getall("Content-Encoding", ())
        if not encodings:
            if (response.content_length or 0) > limit and response.method != "HEAD":
                return None
            if type(response) is Http1Response and response.complete:
                content = response.take()
                return content if len(content) <= limit else None
        return await read_body(response.content, encodings, limit)

    async def release(self, response: Response, limit: int = _DRAIN_BYTES) -> None:
        """Keeps the connection if the body has at most `limit` bytes and arrives soon."""
        if response.closed:  # the body is complete
            return
        try:
            if response.content_length is not None and response.content_length <= limit:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await drain_body(response.content, limit)
        except (aiohttp.ClientError, OSError):  # the body is not needed; TimeoutError is an OSError
            pass
        finally:
            response.close()


def _open_session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=_NO_TIMEOUT,
        trust_env=False,
        auto_decompress=False,  # `read_body` decodes
        read_bufsize=READ_AHEAD,
    )
    session._retry_connection = False  # noqa: SLF001 - `repeat_if_closed` repeats only what it may
    return session


def _received(response: Response) -> int:
    """How many bytes of an answer have arrived; a session counts only those of fields and body."""
    if isinstance(response, Http1Response):
        return response.received
    head = sum(len(name) + len(value) for name, value in response.raw_headers)
    return head + response.content.total_bytes


def _with_cookies(request: Request, cookies: str) -> Request:
    headers = CIMultiDict(request.headers or ())
    headers.popall("Cookie", None)
    if cookies:
        headers["Cookie"] = cookies
    return replace(request, headers=headers, mask=mask_with_cookies(request.mask, cookies))


def _becomes_get(status: int, method: str) -> bool:
    return (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST")
