"""The HTTP server under the application: what aiohttp answers before or beside it is problem+json, too, and logged without what was sent.

Whoever talks to it may be slow or hostile: a head has a time and a size, a connection without a request in hand has a time, and the
number of connections is bounded. Bodies have theirs in `bodies`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo  # what it queues itself for a head that cannot be parsed

from waitd.api.problems import PROBLEM, ProblemError, classify_error, problem_response, refusal
from waitd.api.server.connection_limit import ConnectionLimiter
from waitd.metrics import Instruments

log = structlog.get_logger(__name__)

#: How long a connection may have no request in hand, in seconds: idle, or until its last answer is read.
IDLE_SECONDS = 75.0
#: How long the head of a request may take, from its first byte to its last, in seconds.
HEAD_SECONDS = 10.0
#: How long the head may be as a whole, in bytes, and how many headers it may have. One line may have 8190 bytes.
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
#: How long a connection is still read from after a refusal that ends it, in seconds: closed at once, the answer could be lost.
FAREWELL_SECONDS = 1.0
#: How long what is left of a body is read and thrown away after its answer, in seconds, for the same reason.
LINGER_SECONDS = 5.0
#: How often connections are looked at that have had no request in hand for too long, in seconds.
SWEEP_SECONDS = 5.0

_Handled = tuple[web.StreamResponse, bool]
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ApiRunner(web.AppRunner):
    """Runs the application. A request whose caller went away is cancelled, so that a long-poll frees its place."""

    def __init__(
        self,
        application: web.Application,
        *,
        instruments: Instruments,
        max_connections: int,
        shutdown_timeout: float = 1.0,
    ) -> None:
        """`shutdown_timeout`: seconds that requests in hand may take once it is cleaned up."""
        super().__init__(application, shutdown_timeout=shutdown_timeout)
        self.openings = ConnectionLimiter(max_connections, asyncio.get_running_loop().time, instruments)
        self._refused = instruments.requests_refused
        self._sweep: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        """Makes the server; sites may listen for it from then on."""
        await super().setup()
        self._sweep = asyncio.create_task(self._close_idle(), name="idle connections")

    async def cleanup(self) -> None:
        """Stops listening, lets requests in hand end, and closes every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        await super().cleanup()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.openings.close_older_than(IDLE_SECONDS)

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        handle = plain.request_handler

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            connection = cast(_Connection, request.protocol)
            self.openings.busy(connection)
            try:
                response = await handle(request)
            except web.HTTPException as error:  # of the steps before the middlewares
                response = problem_response(classify_error(error))
            finally:
                self.openings.spare(connection)
            if response.status >= 400:
                self._count(response)
            return response

        return _Server(
            answer,
            request_factory=plain.request_factory,
            handler_cancellation=True,
            openings=self.openings,
            count=self._count,
        )

    def _count(self, response: web.StreamResponse) -> None:
        self._refused.labels(response.get(PROBLEM, "internal-error")).inc()


class _Server(web.Server):
    def __init__(
        self,
        handler: _Handler,
        *,
        openings: ConnectionLimiter,
        count: Callable[[web.StreamResponse], None],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.openings = openings
        self.count = count

    def __call__(self) -> web.RequestHandler:
        return _Connection(self)


class _Connection(web.RequestHandler):
    __slots__ = ("_count", "_end_of_head", "_head_size", "_openings", "_refused")

    def __init__(self, server: _Server) -> None:
        quiet: Any = None  # aiohttp takes None for no access log, though its type says otherwise
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=quiet,
            keepalive_timeout=IDLE_SECONDS,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_SECONDS,
        )
        self._openings, self._count = server.openings, server.count
        self._head_size = 0
        self._end_of_head: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, where there is room for it."""
        if self._openings.enter(self):
            super().connection_made(transport)
        else:
            self._manager = None  # aiohttp's sign for a connection that it need not take leave of
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Frees its place."""
        self._openings.leave(self)
        self._forget_head()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends it at once, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def data_received(self, data: bytes) -> None:
        """Takes what has come; a head may come in parts, but not for ever and without end."""
        super().data_received(data)
        if self._refused or not self._waits():
            if self._head_size:
                self._forget_head()
            return
        # Whoever still waits for a request has got a part of its head.
        self._head_size += len(data)
        if self._head_size > MAX_HEAD:
            self._refuse(refusal("headers-too-large", f"the head of a request has at most {MAX_HEAD} bytes"))
        elif self._end_of_head is None:
            self._end_of_head = self._loop.call_later(HEAD_SECONDS, self._refuse_late_head)

    def _waits(self) -> bool:
        """Whether what comes belongs to the head of a request; the first may come before anybody looks out for it."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def _refuse_late_head(self) -> None:
        if self._waits():
            self._refuse(
                refusal("request-timeout", f"the head of a request has to arrive within {HEAD_SECONDS:g} s")
            )

    def _refuse(self, error: ProblemError) -> None:
        """Answers to a head that is not whole, in the way in which aiohttp answers to one that is broken."""
        self._messages.append((_ErrInfo(error.status, error, ""), EMPTY_PAYLOAD))
        self._refused = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _forget_head(self) -> None:
        self._head_size = 0
        if self._end_of_head is not None:
            self._end_of_head.cancel()
            self._end_of_head = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - aiohttp's shape; the error says more
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's shape; it quotes what was sent
    ) -> web.StreamResponse:
        """What is answered to bytes that are no request, or where the application failed as a whole."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        error = exc if isinstance(exc, Exception) else RuntimeError("the application failed")
        response = problem_response(classify_error(error))
        response.force_close()
        self._refused = True
        self._count(response)
        log.debug("request", status=response.status, reason=type(error).__name__)
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> _Handled:
        """Sends the answer; the last one of a connection that is refused is given time to arrive."""
        handled = await super().finish_response(request, resp, start_time)
        if self._refused and self.transport is not None:
            self._close = True  # from here on what comes is thrown away
            if self.transport.can_write_eof():
                self.transport.write_eof()
            await asyncio.sleep(FAREWELL_SECONDS)  # ends before, with the connection: the task is cancelled
        return handled

    def log_exception(self, *args: Any, **details: Any) -> None:
        """Takes over aiohttp's own log lines: a malformed request is no error, and its bytes may hold a secret."""
        error = details.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            log.debug("connection_broken", reason=type(error).__name__)
        else:
            log.error("connection_failed", why=str(args[0]) if args else "", exc_info=error)
