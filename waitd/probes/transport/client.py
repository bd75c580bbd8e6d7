"""One HTTP session, tuned for asking small questions very often; and what its troubles are called.

It follows redirects within the origin, stops reading at a limit, and keeps connections alive. It knows nothing of waits and conditions.
"""

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from waitd import __version__
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.http.answer import AnswerFacts
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing import Outgoing, blocked
from waitd.probes.transport.connection import Http1Connection, Http1Response, NotHttp, OnResponse
from waitd.probes.transport.decoding import Decoder, decoder_of
from waitd.probes.transport.pool import ConnectionPool

MAX_REDIRECTS = 5
#: Methods of requests that go past the sessions.
DIRECT = frozenset({"GET", "HEAD"})
#: Statuses of redirects.
FOLLOWED = frozenset({301, 302, 303, 307, 308})
#: An unread body of at most this many bytes is read away to keep the connection, if it comes within this many seconds.
_DRAIN_BYTES = 64 * 1024
_DRAIN_SECONDS = 0.25

_HEADERS = {"User-Agent": f"waitd/{__version__}", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class Request(NamedTuple):
    """What is asked. `url` is encoded; `headers` may carry credentials, which stay within its origin.

    `verify_tls` may be the certificates to check against; `named`: who chose the host.
    """

    method: str
    url: str
    headers: Mapping[str, str] | None
    body: bytes | None
    verify_tls: bool | ssl.SSLContext
    named: HostSource = HostSource.BY_SUBMITTER


class HttpAnswer(NamedTuple):
    """A complete head; the body is still to come. It must be given to `HttpClient.release`. `url`: where redirects led."""

    facts: AnswerFacts
    response: "Response"
    url: str = ""


Response = aiohttp.ClientResponse | Http1Response


class HttpClient:
    """The sessions: hosts of submitters and hosts of the operator have one each, and share no connection.

    The caller bounds each call in time and cancels it.
    """

    def __init__(
        self, *, keepalive: float | None, outgoing: Outgoing | None = None, direct: bool = True
    ) -> None:
        """A client.

        Args:
            keepalive: seconds that an idle connection is kept; None: each request has one of its own.
            outgoing: the egress rules; default: those that always hold.
            direct: GET and HEAD go past the sessions (see `wire`).
        """
        self._keepalive = keepalive
        self._outgoing = outgoing or Outgoing()
        self._direct = direct
        self._sessions: dict[HostSource, aiohttp.ClientSession] = {}
        self._wires: dict[HostSource, ConnectionPool] = {}

    async def start(self) -> Self:
        """Opens the sessions."""
        for named in HostSource:
            # How many requests are in flight, and where, is the poker's to say.
            keeping = (
                {"force_close": True} if self._keepalive is None else {"keepalive_timeout": self._keepalive}
            )
            connector = self._outgoing.connector(named, limit=0, limit_per_host=0, **keeping)
            self._sessions[named] = _session(connector)
            if self._direct:
                self._wires[named] = ConnectionPool(connector, _HEADERS, keepalive=self._keepalive or 0.0)
        return self

    async def close(self) -> None:
        """Closes the sessions and their connections."""
        sessions, wires = self._sessions, self._wires
        self._sessions, self._wires = {}, {}
        for wire in wires.values():
            wire.close()
        for session in sessions.values():
            await session.close()

    async def exchange(self, request: Request, now: float, *, anew: bool = False) -> HttpAnswer:
        """Asks, and follows redirects within the origin.

        Args:
            request: what is asked.
            now: Unix seconds, to read a `Retry-After` date against.
            anew: it was asked on a connection that the server had closed, so that another one is made.

        Raises:
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        named = self._outgoing.judge_url(request.url, request.named)
        if named is not request.named:
            request = request._replace(named=named)
        return await self.answer_of(request, await self._send(request, anew=anew), now)

    def begin(self, request: Request, told: OnResponse) -> Http1Connection | None:
        """Asks where that takes nothing but a connection that is free; what comes of it is told. None: it takes more, `exchange`.

        Where it is told of `wire.CLOSED_WHILE_IDLE`, `exchange` it anew.

        Raises:
            aiohttp.ClientError, OSError, ValueError: as `exchange`.
        """
        method, url, headers, body, verify_tls, named = request
        wire = self._wires.get(named)
        if wire is None or body is not None or method not in DIRECT:
            return None
        if self._outgoing.judge_url(url, named) is not named:
            return None
        return wire.begin(method, url, headers, verify_tls, told)

    async def answer_of(self, request: Request, response: Response, now: float) -> HttpAnswer:
        """The answer to a request whose first response is this one; see `exchange`."""
        if response.status not in FOLLOWED:
            return HttpAnswer(facts_of(response, now), response, request.url)
        return await self._followed(request, response, now)

    async def _followed(self, request: Request, response: Response, now: float) -> HttpAnswer:
        """The answer to which redirects lead. `request.named` says which pool they use."""
        origin = parse_origin(request.url)
        for left in reversed(range(MAX_REDIRECTS + 1)):
            status = response.status
            if status not in FOLLOWED or "Location" not in response.headers:
                return HttpAnswer(facts_of(response, now), response, request.url)
            try:
                url = _target(request.url, response.headers["Location"])
                elsewhere = parse_origin(url)
            except ValueError:
                return HttpAnswer(AnswerFacts(status), response)  # it leads nowhere: any other 3xx
            if elsewhere != origin:
                return HttpAnswer(AnswerFacts(status, redirect_origin=str(elsewhere)), response)
            if not left:
                break
            if _becomes_get(status, request.method):
                headers = _without_content_type(request.headers)
                request = request._replace(method="GET", body=None, headers=headers)
            request = request._replace(url=url)
            await self.release(response)
            response = await self._send(request)
        return HttpAnswer(AnswerFacts(status, redirect_loop=True), response)

    async def once(self, request: Request, now: float, *, connect_timeout: float) -> HttpAnswer:
        """Asks, once, and follows nothing.

        Raises:
            aiohttp.ConnectionTimeoutError: there was no connection after `connect_timeout` seconds.
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        session = self._sessions.get(self._outgoing.judge_url(request.url, request.named))
        if session is None:
            raise RuntimeError("the HTTP client is not started")
        response = await session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=request.headers,
            data=request.body,
            ssl=request.verify_tls,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
        )
        return HttpAnswer(facts_of(response, now), response)

    def _send(self, request: Request, *, anew: bool = False) -> Awaitable[Response]:
        """One exchange."""
        method, url, headers, body, verify_tls, named = request
        wire = self._wires.get(named)
        if wire is not None and body is None and method in DIRECT:
            return wire.ask(method, url, headers, verify_tls, anew=anew)
        session = self._sessions.get(named)
        if session is None:
            raise RuntimeError("the HTTP client is not started")
        encoded = URL(url, encoded=True)
        return session.request(
            method, encoded, headers=headers, data=body, ssl=verify_tls, allow_redirects=False
        )

    @staticmethod
    async def read(response: Response, limit: int) -> bytes | None:
        """The decoded body; None where it is over `limit` bytes, of which no more are taken in than it takes to know that.

        Raises:
            aiohttp.ClientError, OSError: it did not come whole.
        """
        encoding = response.headers.get("Content-Encoding", "")
        if not encoding and (response.content_length or 0) > limit and response.method != "HEAD":
            return None
        try:
            if type(response) is Http1Response and response.whole and not encoding:
                content = response.taken()
                return content if len(content) <= limit else None
            decoder = decoder_of(encoding) if encoding else None
            return await _read(response.content, decoder, limit)
        except ValueError as error:
            raise aiohttp.ClientPayloadError(str(error)) from error

    async def release(self, response: Response) -> None:
        """Gives the connection back where the rest of the body is small and there; else closes it."""
        if response.closed:  # it was whole with its head, or has been read
            return
        try:
            if response.content_length is not None and response.content_length <= _DRAIN_BYTES:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self.read(response, _DRAIN_BYTES)
        except (aiohttp.ClientError, OSError):  # nobody needed it; a timeout is an OSError, too
            pass
        finally:
            response.close()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=_NO_TIMEOUT,
        trust_env=False,
        auto_decompress=False,  # see `decoding`
    )


async def _read(
    content: aiohttp.StreamReader | Http1Response, decoder: Decoder | None, limit: int
) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        chunk = await content.readany()
        if decoder is not None:
            chunk = decoder.feed(chunk, limit - size)
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if content.at_eof():
            break
    if decoder is not None:
        decoder.finish()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def facts_of(response: Response, now: float) -> AnswerFacts:
    """What the head says that conditions do not ask about; of a redirect that is not followed, its status. `now`: Unix seconds."""
    status = response.status
    if status < 400 or (type(response) is Http1Response and response.field(b"retry-after") is None):
        return _plain(status)
    headers = response.headers
    return AnswerFacts(status, parse_retry_after(headers.get("Retry-After"), now, headers.get("Date")))


@lru_cache(maxsize=1024)
def _plain(status: int) -> AnswerFacts:
    return AnswerFacts(status)


def _target(url: str, location: str) -> str:
    """Where a redirect leads. Raises ValueError where parsers might disagree about it."""
    if "\\" in location:
        raise ValueError("a backslash in a redirect")
    return str(URL(url, encoded=True).join(URL(location)).with_fragment(None))


def _becomes_get(status: int, method: str) -> bool:
    return (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST")


def _without_content_type(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    if headers is None:
        return None
    return {name: value for name, value in headers.items() if name.lower() != "content-type"}


TOO_LARGE = Unreachable("too_large", "A condition needs the body, and it is over 1 MiB.")
_REFUSED = Unreachable("connection_refused", "The connection was refused.")
_DNS = Unreachable("dns", "The host name could not be resolved.")
_TIMEOUT = Unreachable("timeout", "The connection timed out.")
_RESET = Unreachable("connection_reset", "The connection was reset.")
_DISCONNECTED = Unreachable("disconnected", "The server closed the connection without an answer.")
_TRUNCATED = Unreachable("truncated", "The body ended too early or could not be decoded.")
_BAD_ANSWER = Unreachable("bad_answer", "The answer was not valid HTTP.")
_NO_ROUTE = Unreachable("no_route", "The host cannot be reached.")
_BAD_URL = Unreachable("bad_url", "The URL cannot be requested.")

_BY_NUMBER = {
    errno.ECONNREFUSED: _REFUSED,
    errno.ETIMEDOUT: _TIMEOUT,
    errno.ECONNRESET: _RESET,
    errno.EPIPE: _RESET,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.ENETUNREACH: _NO_ROUTE,
}


#: The first that matches; several of them are OSErrors, too.
_BY_TYPE: tuple[tuple[type[Exception], Unreachable], ...] = (
    (aiohttp.ClientConnectorDNSError, _DNS),
    (aiohttp.ServerDisconnectedError, _DISCONNECTED),
    (aiohttp.ClientPayloadError, _TRUNCATED),
    (aiohttp.ClientResponseError, _BAD_ANSWER),
    (NotHttp, _BAD_ANSWER),
    (aiohttp.InvalidURL, _BAD_URL),
    (TimeoutError, _TIMEOUT),
    (ConnectionResetError, _RESET),
)


def classify_error(error: Exception) -> Unreachable:
    """What is said of an error. The words are stable and quote nothing of the request: equal troubles form one run."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _tls(error.certificate_error)
    refusal = error if isinstance(error, EgressRefused) else blocked(error)
    if refusal is not None:
        return Unreachable("egress_refused", f"No request may go there: {refusal.why}.")
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return _tls(error)
    for kind, verdict in _BY_TYPE:
        if isinstance(error, kind):
            return verdict
    if isinstance(error, OSError):
        number = error.errno or 0
        name = errno.errorcode.get(number, "")
        return _BY_NUMBER.get(number) or Unreachable(
            "connection_failed", f"The connection failed. {name}".strip()
        )
    return Unreachable("probe_error", f"The poke itself failed: {type(error).__name__}.")


def _tls(error: Exception) -> Unreachable:
    """OpenSSL's own short reason, which names no host."""
    cause = getattr(error, "os_error", error)
    words = (
        getattr(cause, "verify_message", "") or (getattr(cause, "reason", "") or "").replace("_", " ").lower()
    )
    return Unreachable("tls", f"TLS failed: {words or 'no common ground'}.")
