"""Deliveries over HTTP: list them, dead ones above all, and redeliver them."""

from dataclasses import replace
from typing import Any

from aiohttp import web

from waitd.api import queries
from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.audit import SUBJECTS, caller_of
from waitd.api.handlers.lists import PART_BYTES, Lists, Page
from waitd.api.server.bodies import json_response, read_json
from waitd.api.submission.sinks import SinkTargets
from waitd.api.views import delivery_item
from waitd.core.waits.audit import Caller
from waitd.models import RedeliverDead, RedeliverIds, parse_model
from waitd.ports import DeliveryFilter, Redelivered


class DeliveryHandlers:
    """The handlers of `/v1/deliveries…`."""

    def __init__(self, dependencies: ApiDependencies, sinks: SinkTargets, lists: Lists) -> None:
        self._store = dependencies.store
        self._disk = dependencies.disk
        self._lists = lists
        self._sinks = sinks

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/deliveries`: a page of deliveries, newest first, and the next page's token."""
        query = queries.delivery_filter(request.query, request[PRINCIPAL].visible_namespace)
        page = Page(
            find=lambda before, limit: self._store.find_deliveries(
                replace(query, before=before, limit=limit, most_bytes=PART_BYTES)
            ),
            key=lambda delivery: delivery.id,
            view=lambda delivery: delivery_item(delivery, self._sinks),
            before=query.before,
            limit=query.limit,
        )
        return await self._lists.send_page(request, "deliveries", page)

    async def redeliver(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/deliveries:redeliver`: 200 with how many are queued, else 404 or 409."""
        body = await read_json(request)
        self._disk.take(0)
        result = await self._redeliver(body, request[PRINCIPAL].visible_namespace, caller_of(request))
        request[SUBJECTS] = result.deliveries
        return json_response({"redelivered": result.deliveries, "more": result.more})

    async def _redeliver(self, body: Any, namespace: str | None, by: Caller) -> Redelivered:
        if isinstance(body, dict) and "ids" in body:
            return await self._store.redeliver_each(parse_model(RedeliverIds, body).ids, namespace, by)
        dead = parse_model(RedeliverDead, body)
        return await self._store.redeliver_dead(
            DeliveryFilter(namespace, dead.state, dead.sink, dead.wait_id, limit=dead.limit), by
        )
