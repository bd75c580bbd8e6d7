"""One connection of the server: bounds what a request may send, and refuses what is not a request.

Clients may be slow or hostile. Nothing that they sent is logged: it may hold a secret.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from waitd.api.problems import classify_error, problem_response, refusal
from waitd.api.server.aiohttp_internals import awaits_head
from waitd.api.server.connection_limit import ConnectionLimiter
from waitd.api.server.heads import MAX_HEAD, MAX_HEADERS, add_answer_headers, refuse_head

log = structlog.get_logger(__name__)

#: How long a connection may be idle, or may take to read its last answer, in seconds.
IDLE_SECONDS = 75.0
#: How long the head of a request may take to arrive, in seconds.
HEAD_SECONDS = 10.0
#: How many bytes may arrive while a handler works, beyond what it reads: the rest of the body, the
#: framing of its chunks, and further requests. The parser stops reading at 128 KiB of content,
#: after one more piece of up to 256 KiB.
MAX_UNREAD = 1024 * 1024
#: How long a refused connection stays open, in seconds, and how many bytes it still takes: if it is
#: closed while data arrives, the client may lose the answer.
FAREWELL_SECONDS = 1.0
FAREWELL_BYTES = 1024 * 1024


class ApiConnection(web.RequestHandler):
    """A connection of the API.

    Attributes:
        limiter: counts it, and may abort it.
        on_refusal: is called with each refusal that the connection sends itself.
    """

    __slots__ = (
        "_admitted", "_body_size", "_dropped", "_head_deadline", "_head_size", "_limiter", "_max_body",
        "_on_refusal", "_refused",
    )  # fmt: skip

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
            lingering_time=0.0,  # the rest of a refused body is not read
            auto_decompress=False,
        )
        self._limiter, self._on_refusal = limiter, on_refusal
        self._head_size = self._body_size = self._dropped = 0
        self._max_body = MAX_UNREAD
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
        """Passes data on to aiohttp; bounds the time of a head, and the sizes of head and body."""
        if self._refused:
            self._drop(data)
            return
        super().data_received(data)
        if not awaits_head(self):
            if self._head_size:
                self._reset_head()
            self._count_body(len(data))
            return
        # The head is not complete yet.
        self._head_size += len(data)
        if self._head_size > MAX_HEAD:
            self._refuse(refuse_head())
        elif self._head_deadline is None:
            self._head_deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse_late_head)

    def begin_request(self) -> None:
        """Notes that a handler starts to work for the connection."""
        self._body_size, self._max_body = 0, MAX_UNREAD

    def allow_body(self, size: int) -> None:
        """Notes that a handler has read `size` bytes of the body, so that more may arrive."""
        self._max_body = MAX_UNREAD + 2 * size  # chunks of a few bytes are as long as their framing

    def _count_body(self, size: int) -> None:
        """Closes the connection if a body takes far more bytes than its content, or is not read."""
        self._body_size += size
        if self._body_size > self._max_body:
            self._refusal(refusal("too-large", "the body has too few bytes of content for its size"))
            self.abort()

    def _drop(self, data: bytes) -> None:
        """Ignores what follows a refused request, up to a limit."""
        self._dropped += len(data)
        if self._dropped > FAREWELL_BYTES and self.transport is not None:
            with suppress(RuntimeError):  # it is closing
                self.transport.pause_reading()

    def _refuse_late_head(self) -> None:
        if awaits_head(self):
            self._refuse(
                refusal("request-timeout", f"the head of a request must arrive within {HEAD_SECONDS:g} s")
            )

    def _refuse(self, error: Exception) -> None:
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
        add_answer_headers(response)
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
        """Sends an answer. Closes the connection if a part of the body is still to come.

        A refused connection stays open until the answer had time to arrive.
        """
        if not resp.prepared:
            add_answer_headers(resp)
        if not request.content.is_eof():
            self._refused = True
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        if self._refused and self.transport is not None:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            with suppress(RuntimeError):  # it is closing
                self.transport.resume_reading()
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
