"""The table of routes: paths, handlers, roles, and what each route takes and answers.

Requests are checked and the OpenAPI document is built from it.
"""

from collections.abc import Sequence

import orjson

from waitd.api import queries
from waitd.api.dependencies import ApiDependencies
from waitd.api.follow.event_ids import EVENT_ID
from waitd.api.handlers.audit import AuditHandlers
from waitd.api.handlers.batch import BatchHandlers
from waitd.api.handlers.connections import CONNECTION_PATH, TRY, ConnectionHandlers
from waitd.api.handlers.costs import CostHandlers
from waitd.api.handlers.deliveries import DeliveryHandlers
from waitd.api.handlers.docs import DocsHandlers
from waitd.api.handlers.events import EVENT_STREAM, LAST_EVENT_ID, EventHandlers
from waitd.api.handlers.health import METRICS_TYPES, HealthHandlers
from waitd.api.handlers.keys import KeyHandlers
from waitd.api.handlers.limits import LimitHandlers
from waitd.api.handlers.lists import Lists
from waitd.api.handlers.signals import SIGNAL_PATH, SignalHandlers
from waitd.api.handlers.waits import WaitHandlers
from waitd.api.routing import NO_FIELDS, PUBLIC, ApiRoute, RouteAnswer, RouteBody, RouteParameter
from waitd.api.server.loopback_guard import NDJSON
from waitd.api.submission.admission import Admission
from waitd.api.submission.validation import Submissions
from waitd.core.auth.principal import Role
from waitd.models import (
    MAX_BATCH_BODY,
    MAX_BATCH_LINES,
    MAX_BODY,
    MAX_KEY_LENGTH,
    MAX_SIGNAL,
    AuditList,
    BatchAnswer,
    BatchLine,
    ConnectionView,
    CostSummary,
    CreatedKeyView,
    DeliveryList,
    KeyList,
    KeyRequest,
    KeyView,
    LimitList,
    LivenessView,
    PokeList,
    ReadinessView,
    RedeliverDead,
    RedeliveredView,
    RedeliverIds,
    S3Event,
    S3EventView,
    SignalPayload,
    SignalView,
    UnreadableWaitView,
    WaitList,
    WaitRequest,
    WaitView,
)

_ID = "/v1/waits/{id:[^/:]+}"
_IDEMPOTENCY_KEY = RouteParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": r"^[\x20-\x7e]+$"},
    "A key of the caller's choice: the same key with the same body returns the same wait, as long as it is stored.",
    where="header",
)
_LAST_EVENT_ID = RouteParameter(
    LAST_EVENT_ID,
    {"type": "string", "pattern": f"^{EVENT_ID.pattern}$"},
    "The id of the last event that was received; the stream continues after it.",
    where="header",
)
_EXAMPLE = {
    "kind": "http",
    "params": {
        "endpoint": "https://jobs.example.org/v1/jobs/17",
        "success_when": "body.status == 'SUCCEEDED'",
        "failure_when": "body.status == 'FAILED'",
    },
    "poke_interval": 30,
    "timeout": 14400,
    "sinks": [{"kind": "webhook", "url": "https://example.org/hooks/waitd"}],
    "labels": {"dag_id": "nightly"},
}


#: The operations that an answer with a wait leads to.
_A_PAGE = "A page: up to `limit` items, and fewer if they are large."
_LINKS = {
    operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in ("getWait", "listPokes", "cancelWait", "pokeWait", "redeliverWait")
}


def route_table(dependencies: ApiDependencies, docs: DocsHandlers) -> Sequence[ApiRoute]:
    """Builds the handlers over `dependencies`; returns every route, those of `docs` included."""
    submissions = Submissions(dependencies)
    admission = Admission(dependencies.poking)
    lists = Lists(dependencies.throttle, dependencies.page_bytes)
    costs = CostHandlers(dependencies, lists)
    waits = WaitHandlers(dependencies, submissions, admission, costs, lists)
    return (
        *_wait_collection_routes(waits, BatchHandlers(dependencies, submissions, admission)),
        *_single_wait_routes(waits),
        *_signal_routes(SignalHandlers(dependencies)),
        *_outcome_routes(
            DeliveryHandlers(dependencies, submissions.sinks, lists), EventHandlers(dependencies)
        ),
        *_administration_routes(KeyHandlers(dependencies, lists), AuditHandlers(dependencies, lists)),
        _connection_route(ConnectionHandlers(dependencies)),
        _limits_route(LimitHandlers(dependencies)),
        *_operation_routes(HealthHandlers(dependencies), costs),
        *_docs_routes(docs),
    )


def _wait_collection_routes(waits: WaitHandlers, batch: BatchHandlers) -> Sequence[ApiRoute]:
    location = {"Location": "Where the wait is."}
    return (
        ApiRoute(
            "POST",
            "/v1/waits",
            waits.submit,
            Role.SUBMITTER,
            "submitWait",
            "waits",
            "Submit a wait: once this is answered, it is on disk",
            (
                RouteAnswer(201, "The wait, stored.", (WaitView,), headers=location, links=_LINKS),
                RouteAnswer(
                    200,
                    "The key and body were sent before: that wait, as it is now.",
                    (WaitView,),
                    headers=location,
                    links=_LINKS,
                ),
            ),
            ("idempotency-key-reused", "over-capacity", "over-limit", "draining", "insufficient-storage"),
            (_IDEMPOTENCY_KEY,),
            RouteBody(f"The wait; at most {MAX_BODY} bytes.", (WaitRequest,), example=_EXAMPLE),
            action="submit",
        ),
        ApiRoute(
            "POST",
            "/v1/waits:batch",
            batch.submit,
            Role.SUBMITTER,
            "submitBatch",
            "waits",
            "Submit many waits in one durable commit",
            (RouteAnswer(200, "One line for each line, in order.", (BatchAnswer,), (NDJSON,)),),
            ("too-many-batches", "draining"),
            body=RouteBody(
                f"One wait per line; at most {MAX_BATCH_LINES} lines and {MAX_BATCH_BODY} bytes.",
                (BatchLine,),
                NDJSON,
                example=2 * (orjson.dumps(_EXAMPLE).decode() + "\n"),
            ),
            action="submit",
        ),
        ApiRoute(
            "GET",
            "/v1/waits",
            waits.find,
            Role.VIEWER,
            "listWaits",
            "waits",
            "Waits, newest first",
            (RouteAnswer(200, _A_PAGE, (WaitList,)),),
            ("too-many-lists",),
            parameters=queries.WAIT_FILTER,
        ),
    )


def _single_wait_routes(waits: WaitHandlers) -> Sequence[ApiRoute]:
    shown = RouteAnswer(200, "The wait.", (WaitView,), links=_LINKS)
    return (
        ApiRoute(
            "GET",
            _ID,
            waits.show,
            Role.VIEWER,
            "getWait",
            "waits",
            "One wait; with `wait`, once it has ended",
            (RouteAnswer(200, "The wait.", (WaitView, UnreadableWaitView), links=_LINKS),),
            ("not-found", "too-many-long-polls"),
            (queries.WAIT,),
        ),
        ApiRoute(
            "GET",
            _ID + "/pokes",
            waits.pokes,
            Role.VIEWER,
            "listPokes",
            "waits",
            "Its last verdicts, in runs of equal ones",
            (RouteAnswer(200, "Its last runs of equal verdicts, oldest first.", (PokeList,)),),
            ("not-found",),
        ),
        ApiRoute(
            "POST",
            _ID + ":cancel",
            waits.cancel,
            Role.SUBMITTER,
            "cancelWait",
            "waits",
            "Cancel it",
            (shown,),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="cancel",
        ),
        ApiRoute(
            "POST",
            _ID + ":poke",
            waits.poke,
            Role.OPERATOR,
            "pokeWait",
            "waits",
            "Poke it now",
            (RouteAnswer(202, "The wait; it is due now.", (WaitView,), links=_LINKS),),
            ("not-found", "conflict", "insufficient-storage"),
            body=NO_FIELDS,
            action="poke",
        ),
        ApiRoute(
            "POST",
            _ID + ":redeliver",
            waits.redeliver,
            Role.OPERATOR,
            "redeliverWait",
            "waits",
            "Deliver its outcome to all of its sinks again",
            (shown,),
            ("not-found", "conflict", "over-limit", "insufficient-storage"),
            body=NO_FIELDS,
            action="redeliver",
        ),
    )


def _signal_routes(signals: SignalHandlers) -> Sequence[ApiRoute]:
    return (
        ApiRoute(
            "POST",
            SIGNAL_PATH + "{key:.+}",
            signals.signal,
            Role.SUBMITTER,
            "signal",
            "waits",
            "Send a signal to the waits that listen to this key: once this is answered, it is on disk",
            (
                RouteAnswer(
                    200, "The signal is stored, and the waits that listen to it are poked.", (SignalView,)
                ),
            ),
            ("conflict", "over-limit", "insufficient-storage"),
            body=RouteBody(
                f"The payload, any JSON; at most {MAX_SIGNAL} bytes.",
                (SignalPayload,),
                required=False,
                example={"approved": True, "by": "ops"},
            ),
            action="signal",
        ),
        ApiRoute(
            "POST",
            "/v1/signals:s3",
            signals.s3,
            Role.SUBMITTER,
            "signalS3",
            "waits",
            "Announce new keys in S3: an event notification of S3, MinIO or EventBridge",
            (RouteAnswer(200, "The waits for these keys are poked.", (S3EventView,)),),
            body=RouteBody(
                "The event notification.",
                (S3Event,),
                example={
                    "Records": [
                        {
                            "eventName": "ObjectCreated:Put",
                            "s3": {"bucket": {"name": "landing"}, "object": {"key": "orders/1.parquet"}},
                        }
                    ]
                },
            ),
            uses_store=False,
        ),
    )


def _outcome_routes(deliveries: DeliveryHandlers, events: EventHandlers) -> Sequence[ApiRoute]:
    return (
        ApiRoute(
            "GET",
            "/v1/deliveries",
            deliveries.find,
            Role.OPERATOR,
            "listDeliveries",
            "outcomes",
            "Deliveries, newest first: with `state=dead`, the dead letters",
            (RouteAnswer(200, _A_PAGE, (DeliveryList,)),),
            ("too-many-lists",),
            parameters=queries.DELIVERY_FILTER,
        ),
        ApiRoute(
            "POST",
            "/v1/deliveries:redeliver",
            deliveries.redeliver,
            Role.OPERATOR,
            "redeliver",
            "outcomes",
            "Redeliver the deliveries that are named, or the dead ones that match",
            (RouteAnswer(200, "How many new deliveries were queued.", (RedeliveredView,)),),
            ("not-found", "conflict", "over-limit", "insufficient-storage"),
            body=RouteBody(
                "Which deliveries.",
                (RedeliverIds, RedeliverDead),
                example={"state": "dead", "sink": "webhook"},
            ),
            action="redeliver",
        ),
        ApiRoute(
            "GET",
            "/v1/events",
            events.follow,
            Role.VIEWER,
            "followEvents",
            "outcomes",
            "Follow outcomes as Server-Sent Events",
            (
                RouteAnswer(
                    200, "`data` is the CloudEvent, `id` the number of the outcome.", (), (EVENT_STREAM,)
                ),
            ),
            ("events-gone", "too-many-readers", "draining"),
            (_LAST_EVENT_ID,),
        ),
    )


def _administration_routes(keys: KeyHandlers, audit: AuditHandlers) -> Sequence[ApiRoute]:
    return (
        ApiRoute(
            "POST",
            "/v1/keys",
            keys.create,
            Role.ADMIN,
            "createKey",
            "administration",
            "Create an API key; only this answer shows it",
            (RouteAnswer(201, "The key.", (CreatedKeyView,)),),
            ("conflict", "insufficient-storage"),
            body=RouteBody(
                "Its role and namespace.",
                (KeyRequest,),
                example={"role": "submitter", "namespace": "team_a", "expires_in": 7776000},
            ),
            action="create_key",
        ),
        ApiRoute(
            "GET",
            "/v1/keys",
            keys.find,
            Role.ADMIN,
            "listKeys",
            "administration",
            "Every API key, newest first, without its secret",
            (RouteAnswer(200, _A_PAGE, (KeyList,)),),
            ("too-many-lists",),
            parameters=(queries.PAGE_TOKEN,),
        ),
        ApiRoute(
            "POST",
            "/v1/keys/{id:[^/:]+}:revoke",
            keys.revoke,
            Role.ADMIN,
            "revokeKey",
            "administration",
            "Revoke an API key: it is refused from now on",
            (RouteAnswer(200, "The key.", (KeyView,)),),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="revoke_key",
        ),
        ApiRoute(
            "GET",
            "/v1/audit",
            audit.find,
            Role.ADMIN,
            "listChanges",
            "administration",
            "The changes and who made them, newest first",
            (RouteAnswer(200, _A_PAGE, (AuditList,)),),
            ("too-many-lists",),
            parameters=queries.AUDIT_FILTER,
        ),
    )


def _connection_route(connections: ConnectionHandlers) -> ApiRoute:
    path = RouteParameter(TRY, {"type": "string"}, "Ask its target for this path once, with GET.")
    return ApiRoute(
        "GET",
        CONNECTION_PATH + "{conn_id:.+}",
        connections.get,
        Role.OPERATOR,
        "getConnection",
        "administration",
        "What the daemon makes of a connection, without its secrets",
        (RouteAnswer(200, "Looked up now, past the cache.", (ConnectionView,)),),
        ("not-found",),
        parameters=(path,),
        uses_store=False,
    )


def _limits_route(limits: LimitHandlers) -> ApiRoute:
    return ApiRoute(
        "GET",
        "/v1/limits",
        limits.get,
        Role.VIEWER,
        "getLimits",
        "administration",
        "The limits of the caller and of its namespace, and how much of each is used",
        (RouteAnswer(200, "One item for each limit.", (LimitList,)),),
    )


def _operation_routes(health: HealthHandlers, costs: CostHandlers) -> Sequence[ApiRoute]:
    return (
        ApiRoute(
            "GET",
            "/v1/cost",
            costs.find,
            Role.VIEWER,
            "getCost",
            "operation",
            "What ended waits cost here, and would have cost in Airflow's modes of waiting",
            (RouteAnswer(200, "Sums, by day, kind or label.", (CostSummary,)),),
            ("not-found", "too-many-lists"),
            queries.COST_FILTER,
        ),
        ApiRoute(
            "GET",
            "/livez",
            health.livez,
            PUBLIC,
            "isAlive",
            "operation",
            "Whether the daemon is alive",
            (RouteAnswer(200, "It is.", (LivenessView,)),),
            uses_store=False,
        ),
        ApiRoute(
            "GET",
            "/readyz",
            health.readyz,
            PUBLIC,
            "isReady",
            "operation",
            "Whether waits are accepted and stored",
            (RouteAnswer(200, "They are.", (ReadinessView,)),),
            ("not-ready",),
            uses_store=False,
        ),
        ApiRoute(
            "GET",
            "/metrics",
            health.metrics,
            health.metrics_role,
            "getMetrics",
            "operation",
            "Metrics for Prometheus",
            (RouteAnswer(200, "In the format that Accept asks for.", (), METRICS_TYPES),),
            uses_store=False,
        ),
    )


def _docs_routes(docs: DocsHandlers) -> Sequence[ApiRoute]:
    return (
        ApiRoute(
            "GET",
            "/openapi.json",
            docs.openapi,
            PUBLIC,
            "getDescription",
            "operation",
            "This document",
            (RouteAnswer(200, "OpenAPI 3.1."),),
            uses_store=False,
        ),
        ApiRoute(
            "GET",
            "/docs",
            docs.page,
            PUBLIC,
            "getDocumentation",
            "operation",
            "This document as a page for people",
            (RouteAnswer(200, "The page.", (), ("text/html",)),),
            uses_store=False,
        ),
        # What the page loads is not part of the API.
        ApiRoute("GET", "/docs/{name}", docs.asset, PUBLIC, "", "", "", (), uses_store=False),
    )
