"""The table of routes: what there is, who serves it, and what it may answer. The OpenAPI document is made from it."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from waitd.api import queries
from waitd.api.administration import administration
from waitd.api.handlers.audit import Audit
from waitd.api.handlers.batch import Batches
from waitd.api.handlers.costs import Costs
from waitd.api.handlers.deliveries import Deliveries
from waitd.api.handlers.docs import Documents
from waitd.api.handlers.events import EVENT_STREAM, LAST_EVENT_ID, Events
from waitd.api.handlers.health import METRICS_TYPES, Operations
from waitd.api.handlers.keys import Keys
from waitd.api.handlers.signals import Signals, signalling
from waitd.api.handlers.waits import Waits
from waitd.api.routing import NO_FIELDS, PUBLIC, Answer, Body, Parameter, Route
from waitd.api.server.loopback_guard import NDJSON
from waitd.core.auth.principal import Role
from waitd.models import (
    MAX_BATCH_BODY,
    MAX_BATCH_LINES,
    MAX_BODY,
    MAX_KEY_LENGTH,
    Alive,
    BatchAnswer,
    BatchLine,
    CostSummary,
    DeliveryList,
    PokeList,
    Ready,
    RedeliverDead,
    RedeliveredView,
    RedeliverIds,
    WaitList,
    WaitRequest,
    WaitView,
)

_ID = "/v1/waits/{id:[^/:]+}"
_IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": r"^[\x20-\x7e]+$"},
    "The caller's key: the same key and the same body is the same wait, as long as it is kept.",
    where="header",
)
_LAST_EVENT_ID = Parameter(
    LAST_EVENT_ID,
    {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "The id of the last event that was received; the stream goes on after it.",
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


#: From the answer that shows a wait to what can be done with it.
_ABOUT_IT = {
    operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in ("getWait", "listPokes", "cancelWait", "pokeWait", "redeliverWait")
}


class Handlers(NamedTuple):
    """Who serves the routes."""

    waits: Waits
    batches: Batches
    deliveries: Deliveries
    events: Events
    operations: Operations
    documents: Documents
    keys: Keys
    audit: Audit
    costs: Costs
    signals: Signals


def table(handlers: Handlers) -> Sequence[Route]:
    """Every route."""
    return (
        *_of_many(handlers.waits, handlers.batches),
        *_of_one(handlers.waits),
        *signalling(handlers.signals),
        *_of_outcomes(handlers.deliveries, handlers.events),
        *administration(handlers.keys, handlers.audit),
        *_of_operation(handlers.operations, handlers.costs),
        *_of_documents(handlers.documents),
    )


def _of_many(waits: Waits, batches: Batches) -> Sequence[Route]:
    location = {"Location": "Where the wait is."}
    return (
        Route(
            "POST",
            "/v1/waits",
            waits.submit,
            Role.SUBMITTER,
            "submitWait",
            "waits",
            "Submit a wait: once this is answered, it is on disk",
            (
                Answer(201, "The wait, stored.", (WaitView,), headers=location, links=_ABOUT_IT),
                Answer(
                    200,
                    "The same key and body as before: the same wait, as it is now.",
                    (WaitView,),
                    headers=location,
                    links=_ABOUT_IT,
                ),
            ),
            ("idempotency-key-reused", "over-capacity", "draining"),
            (_IDEMPOTENCY_KEY,),
            Body(f"The wait; at most {MAX_BODY} bytes.", (WaitRequest,), example=_EXAMPLE),
            action="submit",
        ),
        Route(
            "POST",
            "/v1/waits:batch",
            batches.submit,
            Role.SUBMITTER,
            "submitBatch",
            "waits",
            "Submit many waits in one durable commit",
            (Answer(200, "An answer line for each line, in order.", (BatchAnswer,), (NDJSON,)),),
            ("too-many-batches", "draining"),
            body=Body(
                f"A wait a line; at most {MAX_BATCH_LINES} lines and {MAX_BATCH_BODY} bytes.",
                (BatchLine,),
                NDJSON,
                example=2 * (orjson.dumps(_EXAMPLE).decode() + "\n"),
            ),
            action="submit",
        ),
        Route(
            "GET",
            "/v1/waits",
            waits.find,
            Role.VIEWER,
            "listWaits",
            "waits",
            "Waits, newest first",
            (Answer(200, "A page.", (WaitList,)),),
            parameters=(queries.STATE, queries.KIND, queries.LABELS, queries.LIMIT, queries.PAGE_TOKEN),
        ),
    )


def _of_one(waits: Waits) -> Sequence[Route]:
    shown = Answer(200, "The wait.", (WaitView,), links=_ABOUT_IT)
    return (
        Route(
            "GET",
            _ID,
            waits.show,
            Role.VIEWER,
            "getWait",
            "waits",
            "One wait; with `wait`, as soon as it ends",
            (shown,),
            ("not-found", "too-many-long-polls"),
            (queries.WAIT,),
        ),
        Route(
            "GET",
            _ID + "/pokes",
            waits.pokes,
            Role.VIEWER,
            "listPokes",
            "waits",
            "What its pokes saw, from when to when, how often",
            (Answer(200, "Its last runs of equal verdicts, oldest first.", (PokeList,)),),
            ("not-found",),
        ),
        Route(
            "POST",
            _ID + ":cancel",
            waits.cancel,
            Role.SUBMITTER,
            "cancelWait",
            "waits",
            "End it as cancelled",
            (shown,),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="cancel",
        ),
        Route(
            "POST",
            _ID + ":poke",
            waits.poke,
            Role.OPERATOR,
            "pokeWait",
            "waits",
            "Look at its target now",
            (Answer(202, "The wait; it is due now.", (WaitView,), links=_ABOUT_IT),),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="poke",
        ),
        Route(
            "POST",
            _ID + ":redeliver",
            waits.redeliver,
            Role.OPERATOR,
            "redeliverWait",
            "waits",
            "Deliver its outcome to all of its sinks once more",
            (shown,),
            ("not-found", "conflict"),
            body=NO_FIELDS,
            action="redeliver",
        ),
    )


def _of_outcomes(deliveries: Deliveries, events: Events) -> Sequence[Route]:
    return (
        Route(
            "GET",
            "/v1/deliveries",
            deliveries.find,
            Role.OPERATOR,
            "listDeliveries",
            "outcomes",
            "Deliveries, newest first: with `state=dead`, the dead letters",
            (Answer(200, "A page.", (DeliveryList,)),),
            parameters=(
                queries.DELIVERY_STATE,
                queries.SINK,
                queries.WAIT_ID,
                queries.LIMIT,
                queries.PAGE_TOKEN,
            ),
        ),
        Route(
            "POST",
            "/v1/deliveries:redeliver",
            deliveries.redeliver,
            Role.OPERATOR,
            "redeliver",
            "outcomes",
            "Deliver once more: those that are named, or the dead ones that match",
            (Answer(200, "How many new deliveries were queued.", (RedeliveredView,)),),
            ("not-found", "conflict"),
            body=Body(
                "Which ones.", (RedeliverIds, RedeliverDead), example={"state": "dead", "sink": "webhook"}
            ),
            action="redeliver",
        ),
        Route(
            "GET",
            "/v1/events",
            events.follow,
            Role.VIEWER,
            "followEvents",
            "outcomes",
            "Outcomes as they come, as Server-Sent Events",
            (Answer(200, "`data` is the CloudEvent, `id` the number of the outcome.", (), (EVENT_STREAM,)),),
            ("events-gone", "too-many-readers", "draining"),
            (_LAST_EVENT_ID,),
        ),
    )


def _of_operation(operations: Operations, costs: Costs) -> Sequence[Route]:
    return (
        Route(
            "GET",
            "/v1/cost",
            costs.find,
            Role.VIEWER,
            "getCost",
            "operation",
            "What waits that have ended cost here, and would have cost in Airflow's ways of waiting",
            (Answer(200, "Sums, by day, kind or label.", (CostSummary,)),),
            ("not-found",),
            (queries.SINCE, queries.BY, queries.LIMIT),
        ),
        Route(
            "GET",
            "/livez",
            operations.livez,
            PUBLIC,
            "isAlive",
            "operation",
            "Whether the daemon gets on with its work",
            (Answer(200, "It does.", (Alive,)),),
            stores=False,
        ),
        Route(
            "GET",
            "/readyz",
            operations.readyz,
            PUBLIC,
            "isReady",
            "operation",
            "Whether submits are taken and kept",
            (Answer(200, "They are.", (Ready,)),),
            ("not-ready",),
            stores=False,
        ),
        Route(
            "GET",
            "/metrics",
            operations.metrics,
            operations.metrics_role,
            "getMetrics",
            "operation",
            "The figures, for Prometheus",
            (Answer(200, "In the format that Accept asks for.", (), METRICS_TYPES),),
            stores=False,
        ),
    )


def _of_documents(documents: Documents) -> Sequence[Route]:
    return (
        Route(
            "GET",
            "/openapi.json",
            documents.openapi,
            PUBLIC,
            "getDescription",
            "operation",
            "This document",
            (Answer(200, "OpenAPI 3.1."),),
            stores=False,
        ),
        Route(
            "GET",
            "/docs",
            documents.page,
            PUBLIC,
            "getDocumentation",
            "operation",
            "This document as a page for people",
            (Answer(200, "The page.", (), ("text/html",)),),
            stores=False,
        ),
        # What the page loads, a browser's cache included, is no part of the API.
        Route("GET", "/docs/{name}", documents.asset, PUBLIC, "", "", "", (), stores=False),
    )
