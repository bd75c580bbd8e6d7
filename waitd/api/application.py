"""The aiohttp application: every route of the table behind the checks that its line asks for, and one door in front of all of them."""

from time import perf_counter

import structlog
from aiohttp import web

from waitd.api.admission import Admission
from waitd.api.batch import Batches
from waitd.api.deliveries import Deliveries
from waitd.api.documents import Documents
from waitd.api.events import Events
from waitd.api.guard import check_caller, check_content_type
from waitd.api.openapi import document
from waitd.api.operations import Operations
from waitd.api.problems import refusal_of, response_of
from waitd.api.queries import check_known
from waitd.api.routing import Handler, Route
from waitd.api.services import Services
from waitd.api.submissions import Submissions
from waitd.api.table import Handlers, table
from waitd.api.targets import SinkTargets
from waitd.api.waits import Waits
from waitd.models import MAX_BODY

log = structlog.get_logger(__name__)


def build_application(services: Services) -> web.Application:
    """The API over `services`, ready for an `ApiRunner`."""
    sinks = SinkTargets(services.sinks)
    submissions = Submissions(services, sinks)
    admission = Admission(services.poking)
    documents = Documents()
    routes = table(
        Handlers(
            Waits(services, submissions, admission, sinks),
            Batches(services, submissions, admission),
            Deliveries(services, sinks),
            Events(services),
            Operations(services),
            documents,
        )
    )
    documents.describe(document(routes, services.probes, services.sinks))
    application = web.Application(middlewares=[door], client_max_size=MAX_BODY)
    for route in routes:
        add = application.router.add_get if route.method == "GET" else application.router.add_post
        add(route.path, _checked(route))
    return application


def _checked(route: Route) -> Handler:
    """The route's handler behind the checks that its line of the table asks for."""
    body = route.body

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query_string:
            check_known(request, route.query)
        if body is not None:
            check_content_type(request, body.content_type, needs_body=body.needed)
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
