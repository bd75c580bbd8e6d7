"""The HTTP server under the application: what aiohttp answers before or beside it is problem+json, too, and logged without what was sent."""

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from waitd.api.problems import refusal_of, response_of

log = structlog.get_logger(__name__)

#: How long a connection may lie idle, or take over the head of a request, in seconds.
IDLE_SECONDS = 75.0


class ApiRunner(web.AppRunner):
    """Runs the application. A request whose caller went away is cancelled, so that a long-poll frees its place.

    `shutdown_timeout`: seconds that requests in hand may take once it is cleaned up.
    """

    def __init__(self, application: web.Application, *, shutdown_timeout: float = 1.0) -> None:
        super().__init__(application, shutdown_timeout=shutdown_timeout)

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        handle = plain.request_handler

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await handle(request)
            except web.HTTPException as error:  # of the steps before the middlewares
                return response_of(refusal_of(error))

        return _Server(answer, request_factory=plain.request_factory, handler_cancellation=True)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        quiet: Any = None  # aiohttp takes None for no access log, though its type says otherwise
        return _Connection(self, loop=loop, access_log=quiet, keepalive_timeout=IDLE_SECONDS)


class _Connection(web.RequestHandler):
    __slots__ = ()

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
        response = response_of(refusal_of(error))
        response.force_close()
        log.debug("request", status=response.status, reason=type(error).__name__)
        return response

    def log_exception(self, *args: Any, **details: Any) -> None:
        """Takes over aiohttp's own log lines: a malformed request is no error, and its bytes may hold a secret."""
        error = details.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            log.debug("connection_broken", reason=type(error).__name__)
        else:
            log.error("connection_failed", why=str(args[0]) if args else "", exc_info=error)
