from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from api_fakes import (
    DAY,
    KEYS_FILE,
    NAMESPACES,
    NOW,
    Api,
    ApiServer,
    CachedConnections,
    DagSink,
    FakeHealth,
    FakePoking,
    PlainProbe,
    PlainSink,
    WatchedStore,
)
from body_checks import LoadingProbe, PacedProbe
from documented import Documented

from waitd.api import EventFeed, Limits, LongPolls, Services, build_application
from waitd.api.submission.validation import Submissions
from waitd.auth import ApiKeyring, BearerAuthenticator
from waitd.metrics import Instruments
from waitd.probes.http.probe import HttpProbe
from waitd.stores import Database


@pytest.fixture
async def store() -> AsyncIterator[WatchedStore]:
    store = WatchedStore(await Database.open("sqlite+aiosqlite://"))
    yield store
    await store.close()


@asynccontextmanager
async def serving(store: WatchedStore, **more: Any) -> AsyncIterator[Api]:
    """Serves the API on a real port: fakes around a real store, and `more` services.

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
        "long_polls": LongPolls(max_long_polls=10),
        "instruments": Instruments(version="test"),
        "limits": Limits(default_timeout=7 * DAY, max_timeout=365 * DAY, min_poke_interval=0.1),
        "health": health,
        "feed": EventFeed(max_readers=3),
        "before_scrape": lambda: scrapes.append(1),
        "now": lambda: NOW,
        "keyring": ApiKeyring(store, file=None, retention=DAY, now=lambda: NOW),
    }
    services = Services(**defaults | more)
    application = build_application(services)
    documented = Documented()
    application.on_response_prepare.append(documented.note)
    async with TestClient(ApiServer(application, services.instruments)) as client:
        documented.document = await (await client.get("/openapi.json")).json()
        yield Api(client, services, store, poking, connections, health, scrapes)
    assert documented.missing == []


@pytest.fixture
def more() -> dict[str, Any]:
    """The services that a test replaces, by name."""
    return {}


@pytest.fixture
async def api(store: WatchedStore, more: dict[str, Any]) -> AsyncIterator[Api]:
    """The API without authentication, unless `more` has an authenticator."""
    async with serving(store, **more) as api:
        yield api


@pytest.fixture
async def guarded(store: WatchedStore, tmp_path: Path, more: dict[str, Any]) -> AsyncIterator[Api]:
    """The API with authentication: the keys `TOKENS`, and the rules `NAMESPACES`."""
    file = tmp_path / "keys"
    file.write_text(KEYS_FILE)
    keyring = ApiKeyring(store, file=file, retention=7 * DAY, now=lambda: NOW)
    await keyring.open()
    authenticator = BearerAuthenticator(keyring, None)
    auth = {"keyring": keyring, "authenticator": authenticator, "namespaces": NAMESPACES}
    async with serving(store, **auth, **more) as api:
        yield api


@pytest.fixture
async def submissions(api: Api) -> AsyncIterator[Submissions]:
    """The validation of bodies for a real kind, which caches parameters, and for others."""
    api.connections.cached.add("cached")
    async with HttpProbe(api.connections, secret_headers=("authorization",)) as http:
        probes: dict[str, Any] = {
            "plain": PlainProbe(),
            "http": http,
            "loading": LoadingProbe(),
            "paced": PacedProbe(),
        }
        yield Submissions(replace(api.services, probes=probes))
