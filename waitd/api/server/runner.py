"""Runs the application: bounds its connections, and closes those that are idle for too long."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from aiohttp import hdrs, web

from waitd.api.problems import PROBLEM, ProblemError, classify_error, problem_response
from waitd.api.server.aiohttp_internals import CustomServerRunner
from waitd.api.server.connection import IDLE_SECONDS, ApiConnection
from waitd.api.server.connection_limit import ConnectionLimiter
from waitd.api.server.heads import check_head
from waitd.metrics import Instruments

log = structlog.get_logger(__name__)

#: How often idle connections are looked for, in seconds.
SWEEP_SECONDS = 5.0


class ApiRunner(CustomServerRunner):
    """Runs the application.

    A request is cancelled when its client disconnects, which ends its long-poll.
    """

    def __init__(
        self,
        application: web.Application,
        *,
        instruments: Instruments,
        max_connections: int,
        shutdown_timeout: float = 1.0,
    ) -> None:
        """`shutdown_timeout`: how long requests may take after cleanup began, in seconds."""
        super().__init__(application, shutdown_timeout=shutdown_timeout)
        self.limiter = ConnectionLimiter(max_connections, asyncio.get_running_loop().time, instruments)
        self._refused = instruments.requests_refused
        self._sweeper: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        """Prepares the server; sites may listen from then on."""
        await super().setup()
        self._sweeper = asyncio.create_task(self._close_idle(), name="idle connections")

    async def cleanup(self) -> None:
        """Stops listening, lets running requests finish, and closes every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await super().cleanup()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.limiter.close_older_than(IDLE_SECONDS)

    def wrap_server(self, server: web.Server) -> web.Server:
        """Returns a server like `server` that bounds its connections and counts refusals."""
        handle = server.request_handler

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            connection = cast(ApiConnection, request.protocol)
            self.limiter.busy(connection)
            connection.begin_request()
            try:
                check_head(request)
                if hdrs.EXPECT in request.headers:
                    await self._check_route(request)
                response = await handle(request)
            except (web.HTTPException, ProblemError) as error:  # raised before the middleware
                response = problem_response(classify_error(error))
                log.debug("request", status=response.status, reason=type(error).__name__)
            finally:
                self.limiter.idle(connection)
            if response.status >= 400:
                self._count(response)
            return response

        return _ApiServer(
            answer,
            make_connection=lambda api_server: ApiConnection(api_server, self.limiter, self._count),
            request_factory=server.request_factory,
            handler_cancellation=True,
        )

    async def _check_route(self, request: web.BaseRequest) -> None:
        """Refuses a request that no route takes, before aiohttp asks for its body."""
        route = await self.app.router.resolve(cast(web.Request, request))
        if route.http_exception is not None:
            raise route.http_exception

    def _count(self, response: web.StreamResponse) -> None:
        self._refused.labels(response.get(PROBLEM, "internal-error")).inc()


class _ApiServer(web.Server):
    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        make_connection: Callable[[web.Server], ApiConnection],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self._make_connection = make_connection

    def __call__(self) -> web.RequestHandler:
        return self._make_connection(self)
