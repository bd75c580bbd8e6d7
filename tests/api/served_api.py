"""Serves the API under test: fakes around a real store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient
from api_fakes import (
    DAY,
    NOW,
    PATIENCE,
    Api,
    ApiServer,
    CachedConnections,
    DagSink,
    FakeHealth,
    FakeInspector,
    FakePoking,
    PlainProbe,
    PlainSink,
    WatchedStore,
)
from documented import Documented

from waitd.api import ApiDependencies, EventFeed, Limits, LongPolls, Throttle, build_application
from waitd.auth import ApiKeyring
from waitd.core.auth.quotas import Quota, Resource
from waitd.metrics import Instruments

#: What all callers together may hold, unless a test gives the API another throttle.
FEW = {
    Resource.LONG_POLLS: Quota(Resource.LONG_POLLS, total=10),
    Resource.EVENT_STREAMS: Quota(Resource.EVENT_STREAMS, total=3),
}


@asynccontextmanager
async def serving(store: WatchedStore, **more: Any) -> AsyncIterator[Api]:
    """Serves the API on a real port: fakes around a real store, and `more` dependencies.

    Every answer in a test must be described by its OpenAPI document.
    """
    poking = FakePoking()
    connections = CachedConnections()
    health = FakeHealth()
    scrapes: list[int] = []
    defaults: dict[str, Any] = {
        "store": store,
        "poking": poking,
        "probes": {"plain": PlainProbe(), "http": PlainProbe()},
        "sinks": {"plain_sink": PlainSink(), "dag_sink": DagSink()},
        "connections": connections,
        "inspector": FakeInspector(),
        "long_polls": LongPolls(),
        "instruments": Instruments(version="test"),
        "limits": Limits(default_timeout=7 * DAY, max_timeout=365 * DAY, min_poke_interval=0.1),
        "health": health,
        "feed": EventFeed(),
        "before_scrape": lambda: scrapes.append(1),
        "now": lambda: NOW,
        "keyring": ApiKeyring(store, file=None, kept_since=lambda: NOW - DAY, now=lambda: NOW),
        "throttle": Throttle(quotas=FEW),
    }
    dependencies = ApiDependencies(**defaults | more)
    application = build_application(dependencies)
    documented = Documented()
    application.on_response_prepare.append(documented.note)
    server, timeout = ApiServer(application, dependencies.instruments), aiohttp.ClientTimeout(PATIENCE)
    async with TestClient(server, timeout=timeout) as client:
        documented.document = await (await client.get("/openapi.json")).json()
        yield Api(client, dependencies, store, poking, connections, health, scrapes)
    assert documented.missing == []
