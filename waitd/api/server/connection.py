"""One connection of the server: bounds the heads of requests, and refuses what is not a request.

Clients may be slow or hostile. Nothing that they sent is logged: it may hold a secret.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from waitd.api.problems import ProblemError, classify_error, problem_response, refusal
from waitd.api.server.aiohttp_internals import awaits_head
from waitd.api.server.connection_limit import ConnectionLimiter

log = structlog.get_logger(__name__)

#: How long a connection may be idle, or may take to read its last answer, in seconds.
IDLE_SECONDS = 75.0
#: How long the head of a request may take to arrive, in seconds.
HEAD_SECONDS = 10.0
#: The largest head, in bytes, and its largest number of headers. aiohttp bounds one line itself.
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
#: How long a refused connection stays open, in seconds: if it is closed while data arrives, the
#: client may lose the answer.
FAREWELL_SECONDS = 1.0
#: How long the rest of a body is read and dropped after its answer, for the same reason.
LINGER_SECONDS = 5.0


class ApiConnection(web.RequestHandler):
    """A connection of the API.

    Attributes:
        limiter: counts it, and may abort it.
        on_refusal: is called with each refusal that the connection sends itself.
    """

    __slots__ = ("_admitted", "_head_deadline", "_head_size", "_limiter", "_on_refusal", "_refused")

    def __init__(
        self, server: web.Server, limiter: ConnectionLimiter, on_refusal: Callable[[web.StreamResponse], None]
    ) -> None:
        no_log: Any = None  # aiohttp accepts None for no access log, though its type does not
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=no_log,
            keepalive_timeout=IDLE_SECONDS,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_SECONDS,
        )
        self._limiter, self._on_refusal = limiter, on_refusal
        self._head_size = 0
        self._head_deadline: asyncio.TimerHandle | None = None
        self._admitted = self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opens the connection if the limit allows it."""
        self._admitted = self._limiter.enter(self)
        if self._admitted:
            super().connection_made(transport)
        else:
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leaves room for another connection."""
        self._limiter.leave(self)
        self._reset_head()
        if self._admitted:
            super().connection_lost(exc)

    def abort(self) -> None:
        """Closes the connection at once; data that is not sent yet is lost."""
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def data_received(self, data: bytes) -> None:
        """Passes data on to aiohttp, and bounds the size and the time of a head."""
        if self._refused:
            return
        super().data_received(data)
        if not awaits_head(self):
            if self._head_size:
                self._reset_head()
            return
        # The head is not complete yet.
        self._head_size += len(data)
        if self._head_size > MAX_HEAD:
            self._refuse(refusal("headers-too-large", f"the head of a request has at most {MAX_HEAD} bytes"))
        elif self._head_deadline is None:
            self._head_deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse_late_head)

    def _refuse_late_head(self) -> None:
        if awaits_head(self):
            self._refuse(
                refusal("request-timeout", f"the head of a request must arrive within {HEAD_SECONDS:g} s")
            )

    def _refuse(self, error: ProblemError) -> None:
        """Answers an incomplete head, and closes the connection once the answer had time to arrive.

        No request is in progress, so the answer is written to the transport directly.
        """
        response = self._refusal(error)
        if self.transport is None:
            return
        self.transport.write(_encode(response))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._reset_head()
        self._head_deadline = asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self.force_close)

    def _refusal(self, error: Exception) -> web.Response:
        """Returns the last answer of this connection."""
        response = problem_response(classify_error(error))
        response.force_close()
        self._refused = True
        self._on_refusal(response)
        log.debug("request", status=response.status, reason=type(error).__name__)
        return response

    def _reset_head(self) -> None:
        self._head_size = 0
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - aiohttp's signature; the error says more
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; the message quotes what was sent
    ) -> web.StreamResponse:
        """Returns the answer to what is not a request, or to an error outside of handlers."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return self._refusal(exc if isinstance(exc, Exception) else RuntimeError("the application failed"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends an answer; a refused connection stays open until the answer had time to arrive."""
        finished = await super().finish_response(request, resp, start_time)
        if self._refused and self.transport is not None:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            await asyncio.sleep(FAREWELL_SECONDS)  # cancelled if the client closes the connection first
        return finished

    def log_exception(self, *args: Any, **details: Any) -> None:
        """Replaces aiohttp's log: a malformed request is not an error and may hold secrets."""
        error = details.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            log.debug("connection_broken", reason=type(error).__name__)
        else:
            log.error("connection_failed", error=str(args[0]) if args else "", exc_info=error)


def _encode(response: web.Response) -> bytes:
    """Returns the bytes of a response that ends its connection."""
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, hdrs.CONTENT_LENGTH: str(len(body)), hdrs.CONNECTION: "close"}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
