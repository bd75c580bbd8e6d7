"""The aiohttp application: every route of the table behind the checks that its line asks for, and one door in front of all of them."""

from time import perf_counter

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from waitd.api.authentication import Admitting, tell_refused
from waitd.api.handlers.audit import Audit, tell_change
from waitd.api.handlers.batch import Batches
from waitd.api.handlers.costs import Costs
from waitd.api.handlers.deliveries import Deliveries
from waitd.api.handlers.docs import Documents
from waitd.api.handlers.events import Events
from waitd.api.handlers.health import Operations
from waitd.api.handlers.keys import Keys
from waitd.api.handlers.signals import Signals
from waitd.api.handlers.waits import Waits
from waitd.api.openapi import document
from waitd.api.problems import PROBLEM, refusal_of, response_of
from waitd.api.queries import check_known
from waitd.api.route_table import Handlers, table
from waitd.api.routing import PUBLIC, Handler, Route
from waitd.api.server.loopback_guard import check_caller, check_content_type, check_method
from waitd.api.server.throttle import Throttle
from waitd.api.services import Services
from waitd.api.submission.admission import Admission
from waitd.api.submission.sinks import SinkTargets
from waitd.api.submission.validation import Submissions
from waitd.core.errors import Forbidden, Unauthenticated
from waitd.models import MAX_BODY

log = structlog.get_logger(__name__)

#: Under this key a request that was let in carries what the audit calls it, where it changes something.
_ACTION = web.RequestKey("_ACTION", str)


def build_application(services: Services) -> web.Application:
    """The API over `services`, ready for an `ApiRunner`."""
    sinks = SinkTargets(services.sinks)
    submissions = Submissions(services, sinks)
    admission = Admission(services.poking)
    documents, costs = Documents(), Costs(services)
    routes = table(
        Handlers(
            Waits(services, submissions, admission, sinks, costs),
            Batches(services, submissions, admission),
            Deliveries(services, sinks),
            Events(services),
            Operations(services),
            documents,
            Keys(services),
            Audit(services),
            costs,
            Signals(services),
        )
    )
    admitting = Admitting(services.authenticator, services.throttle)
    documents.describe(lambda: document(routes, services.probes, services.sinks, asks=admitting.asks))
    application = web.Application(middlewares=[_door(admitting)], client_max_size=MAX_BODY)
    for route in routes:
        add = application.router.add_get if route.method == "GET" else application.router.add_post
        add(route.path, _checked(route, admitting, services.throttle))
    return application


def _checked(route: Route, admitting: Admitting, throttle: Throttle) -> Handler:
    """The route's handler behind the checks that its line of the table asks for."""
    body, role = route.body, route.role

    async def handle(request: web.Request) -> web.StreamResponse:
        if route.action:
            request[_ACTION] = route.action
        if request.query_string:
            check_known(request, route.query)
        if body is not None:
            check_content_type(request, body.content_type, needs_body=body.needed)
        return await route.handler(request)

    if role is PUBLIC:
        return handle

    async def admit(request: web.Request) -> web.StreamResponse:
        with throttle.request(await admitting.admit(request, role)):
            return await handle(request)

    return admit


def _door(admitting: Admitting) -> Middleware:
    """Checks where a call comes from, turns whatever goes wrong into problem+json, and writes the access log."""

    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        try:
            if not admitting.asks:
                check_caller(request)
            check_method(request)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - the last place that can answer; what is unexpected is logged there
            if isinstance(error, Unauthenticated | Forbidden):
                tell_refused(request, error)
            response = response_of(refusal_of(error))
        if action := request.get(_ACTION):
            tell_change(request, action, response.get(PROBLEM, "done"))
        seconds = round(perf_counter() - started, 6)
        log.debug(
            "request", method=request.method, path=request.path, status=response.status, seconds=seconds
        )
        return response

    return door
