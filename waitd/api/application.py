"""The aiohttp application: a table of routes, and one door in front of all of them."""

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import structlog
from aiohttp import web

from waitd.api.admission import Admission
from waitd.api.batch import Batches
from waitd.api.guard import JSON, NDJSON, check_caller, check_content_type
from waitd.api.operations import Operations
from waitd.api.problems import refusal_of, response_of
from waitd.api.queries import LABEL, check_known
from waitd.api.services import Services
from waitd.api.submissions import Submissions
from waitd.api.targets import SinkTargets
from waitd.api.waits import Waits
from waitd.models import MAX_BODY

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ID = "/v1/waits/{id:[^/:]+}"
_NO_QUERY: frozenset[str] = frozenset()


class Route(NamedTuple):
    """One line of the table. `body`: the type of a POST's body; `needs_body`: whether there must be one."""

    method: str
    path: str
    handler: Handler
    query: frozenset[str] = _NO_QUERY
    body: str | None = None
    needs_body: bool = False


def build_application(services: Services) -> web.Application:
    """The API over `services`, ready for a runner.

    Give the runner `handler_cancellation=True`, so that a long-poll whose caller went away frees its place.
    """
    sinks = SinkTargets(services.sinks)
    submissions = Submissions(services, sinks)
    admission = Admission(services.poking)
    waits = Waits(services, submissions, admission, sinks)
    batches = Batches(services, submissions, admission)
    application = web.Application(middlewares=[door], client_max_size=MAX_BODY)
    for route in _table(waits, batches, Operations(services)):
        add = application.router.add_get if route.method == "GET" else application.router.add_post
        add(route.path, _checked(route))
    return application


def _table(waits: Waits, batches: Batches, operations: Operations) -> Sequence[Route]:
    filters = frozenset({"state", "kind", "limit", "page_token", LABEL})
    return (
        Route("POST", "/v1/waits", waits.submit, body=JSON, needs_body=True),
        Route("POST", "/v1/waits:batch", batches.submit, body=NDJSON, needs_body=True),
        Route("GET", "/v1/waits", waits.find, filters),
        Route("GET", _ID, waits.show, frozenset({"wait"})),
        Route("GET", _ID + "/pokes", waits.pokes),
        Route("POST", _ID + ":cancel", waits.cancel, body=JSON),
        Route("POST", _ID + ":poke", waits.poke, body=JSON),
        Route("POST", _ID + ":redeliver", waits.redeliver, body=JSON),
        Route("GET", "/livez", operations.livez),
        Route("GET", "/readyz", operations.readyz),
        Route("GET", "/metrics", operations.metrics),
    )


def _checked(route: Route) -> Handler:
    """The route's handler behind the checks that its line of the table asks for."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query_string:
            check_known(request, route.query)
        if route.body is not None:
            check_content_type(request, route.body, needs_body=route.needs_body)
        return await route.handler(request)

    return handle


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Checks who calls, turns whatever goes wrong into problem+json, and writes the access log."""
    started = perf_counter()
    try:
        check_caller(request)
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 - the last place that can answer; what is unexpected is logged there
        response = response_of(refusal_of(error))
    seconds = round(perf_counter() - started, 6)
    log.debug("request", method=request.method, path=request.path, status=response.status, seconds=seconds)
    return response
