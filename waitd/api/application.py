"""The aiohttp application: every route behind its checks, and one middleware around all of them."""

import asyncio
from dataclasses import replace
from time import perf_counter

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from waitd.api.authentication import PRINCIPAL, Gatekeeper, log_refused
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.audit import DONE, SUBJECTS, log_change
from waitd.api.handlers.docs import DocsHandlers
from waitd.api.handlers.health import HealthHandlers
from waitd.api.openapi import build_document
from waitd.api.problems import PROBLEM, ProblemError, classify_error, problem_response
from waitd.api.queries import check_known
from waitd.api.route_table import route_table
from waitd.api.routing import PUBLIC, ApiRoute, Handler
from waitd.api.server.loopback_guard import check_content_type, check_method, check_origin
from waitd.api.server.seats import NamespaceSeats, leave_seat, reserve_seat, take_seat
from waitd.api.server.throttle import Throttle
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.errors import AccessDenied, LimitReached
from waitd.core.local_trouble import local_trouble
from waitd.models import MAX_BODY

log = structlog.get_logger(__name__)

#: A request to a route that changes something carries the route's audit action under this key.
_ACTION = web.RequestKey("_ACTION", str)

#: The statuses of refusals that count as several requests; failed authentications (401) are counted
#: where they are found.
CHARGED = frozenset({403, 404, 413, 422})
#: The refusals of requests that were not counted before.
UNCOUNTED = frozenset({"role-needed", "no-such-route"})

#: A 429 comes after a pause, in seconds: a caller that sends again at once would take the time of
#: others.
REFUSAL_PAUSE = 0.1


def build_application(dependencies: ApiDependencies) -> web.Application:
    """Builds the API over `dependencies`, ready for an `ApiRunner`."""
    gatekeeper = Gatekeeper(dependencies.authenticator, dependencies.throttle)
    docs = DocsHandlers(
        lambda: build_document(
            routes, dependencies.probes, dependencies.sinks, authenticated=gatekeeper.authenticates
        )
    )
    routes = route_table(dependencies, docs)
    application = web.Application(
        middlewares=[_middleware(gatekeeper, dependencies)],
        client_max_size=MAX_BODY,
    )
    seats = NamespaceSeats()
    for route in routes:
        add = application.router.add_get if route.method == "GET" else application.router.add_post
        add(
            route.path,
            _with_checks(route, gatekeeper, dependencies.throttle, seats),
            expect_handler=_check_first,
        )
    return application


def build_metrics_application(dependencies: ApiDependencies) -> web.Application:
    """Builds an application that answers `GET /metrics` to anyone, and nothing else."""
    health = HealthHandlers(replace(dependencies, open_metrics=True))

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - every error becomes a response; unexpected ones are logged
            return problem_response(classify_error(error))

    application = web.Application(middlewares=[answer])
    application.router.add_get("/metrics", health.metrics)
    return application


async def _check_first(request: web.Request) -> None:
    """Leaves `100 Continue` to those who read the body: most refusals need no body."""


def _with_checks(
    route: ApiRoute, gatekeeper: Gatekeeper, throttle: Throttle, seats: NamespaceSeats
) -> Handler:
    """Wraps the route's handler in the checks that its line of the table asks for."""
    body, role = route.body, route.role
    known = frozenset(parameter.name for parameter in route.parameters if parameter.where == "query")

    async def handle(request: web.Request) -> web.StreamResponse:
        if route.action:
            request[_ACTION] = route.action
        if request.query_string:
            check_known(request, known)
        if body is not None:
            check_content_type(request, body.content_type, required=body.required)
        return await route.handler(request)

    if role is PUBLIC:
        return handle

    async def handle_authorized(request: web.Request) -> web.StreamResponse:
        principal = await gatekeeper.authorize(request, role)
        throttle.begin(principal)
        try:
            if principal is not LOOPBACK_PRINCIPAL:  # this machine shares the daemon with no one
                reserve_seat(request, seats, principal.namespace)
            if body is None:  # else it takes one once the body is there
                await take_seat(request)
            return await handle(request)
        finally:
            leave_seat(request)
            throttle.end(principal)

    return handle_authorized


def _refuse(
    request: web.Request, error: Exception, dependencies: ApiDependencies, *, authenticates: bool
) -> ProblemError:
    """Logs and counts a refusal; returns the problem to answer."""
    if isinstance(error, AccessDenied):
        log_refused(request, error, dependencies.refusals)
    elif isinstance(error, LimitReached):
        dependencies.throttle.count(request[PRINCIPAL], error.limit)
    elif trouble := local_trouble(error):
        dependencies.health.report_trouble(trouble)
    problem = classify_error(error)
    if not authenticates or problem.status not in CHARGED:
        return problem
    throttle, principal = dependencies.throttle, request.get(PRINCIPAL)
    if problem.name in UNCOUNTED:
        try:
            throttle.check_refused(principal, request.remote)
        except ProblemError as too_many:
            return too_many
    throttle.charge_refusal(principal, request.remote)
    return problem


def _middleware(gatekeeper: Gatekeeper, dependencies: ApiDependencies) -> Middleware:
    """Checks the origin of each request, turns errors into problem documents, and logs."""
    refusals = dependencies.refusals

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        try:
            if not gatekeeper.authenticates:
                check_origin(request)
            check_method(request)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - every error becomes a response; unexpected ones are logged
            problem = _refuse(request, error, dependencies, authenticates=gatekeeper.authenticates)
            response = problem_response(problem)
            if problem.status == 429 and gatekeeper.authenticates:
                await asyncio.sleep(REFUSAL_PAUSE)
        except asyncio.CancelledError:  # the client has disconnected
            if SUBJECTS in request:
                log_change(request, request[_ACTION], DONE, refusals)
            raise
        if action := request.get(_ACTION):
            log_change(request, action, response.get(PROBLEM, DONE), refusals)
        seconds = round(perf_counter() - started, 6)
        log.debug(
            "request", method=request.method, path=request.path, status=response.status, seconds=seconds
        )
        return response

    return answer
