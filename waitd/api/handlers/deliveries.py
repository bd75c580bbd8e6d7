"""Deliveries over HTTP: which there are, the dead ones above all, and sending them anew."""

from dataclasses import replace
from typing import Any

from aiohttp import web

from waitd.api import queries
from waitd.api.callers import seen_by
from waitd.api.handlers.audit import SUBJECTS, caller_of
from waitd.api.requests import json_response
from waitd.api.server.bodies import decoded, read_body
from waitd.api.services import Services
from waitd.api.submission.sinks import SinkTargets
from waitd.api.views import delivery_item
from waitd.core.waits.audit import Caller
from waitd.models import RedeliverDead, RedeliverIds, parsed
from waitd.ports import DeliveryFilter, Redelivered


class Deliveries:
    """The handlers of `/v1/deliveries…`."""

    def __init__(self, services: Services, sinks: SinkTargets) -> None:
        self._store = services.store
        self._sinks = sinks

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/deliveries`: a page of deliveries, newest first, and the token of the next page."""
        wanted = queries.delivery_filter(request.query, seen_by(request))
        found = await self._store.find_deliveries(replace(wanted, limit=wanted.limit + 1))
        page = found[: wanted.limit]
        token = queries.page_token(page[-1].id) if len(found) > wanted.limit else None
        items = [delivery_item(delivery, self._sinks) for delivery in page]
        return json_response({"deliveries": items, "next_page_token": token})

    async def redeliver(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/deliveries:redeliver`: 200 with how many are queued anew; 404 or 409 where one that is named cannot be."""
        raw = decoded(await read_body(request))
        done = await self._redelivered(raw, seen_by(request), caller_of(request))
        request[SUBJECTS] = done.deliveries
        return json_response({"redelivered": done.deliveries, "more": done.more})

    async def _redelivered(self, raw: Any, namespace: str | None, by: Caller) -> Redelivered:
        if isinstance(raw, dict) and "ids" in raw:
            return await self._store.redeliver_each(parsed(RedeliverIds, raw).ids, namespace, by)
        wanted = parsed(RedeliverDead, raw)
        return await self._store.redeliver_dead(
            DeliveryFilter(namespace, wanted.state, wanted.sink, wanted.wait_id, limit=wanted.limit),
            by,
        )
