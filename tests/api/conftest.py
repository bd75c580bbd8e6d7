from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

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
    FakeHealth,
    FakePoking,
    WatchedStore,
    services_for,
)
from documented import Documented

from waitd.api import build_application
from waitd.auth import ApiKeyring, BearerAuthenticator
from waitd.stores import Database, Store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(
        await Database.open("sqlite+aiosqlite://"),
        destination_of=lambda _, sink: str(sink["kind"]),
        now=lambda: NOW,
    )
    yield store
    await store.close()


@asynccontextmanager
async def serving(store: Store, **more: Any) -> AsyncIterator[Api]:
    """Serves the API on a real port, with `more` services.

    Every answer in a test must be described by its OpenAPI document.
    """
    scrapes: list[int] = []
    watched = WatchedStore(store)
    services = services_for(watched, scrapes, **more)
    application = build_application(services)
    documented = Documented()
    application.on_response_prepare.append(documented.note)
    async with TestClient(ApiServer(application, services.instruments)) as client:
        documented.document = await (await client.get("/openapi.json")).json()
        yield Api(
            client,
            services,
            watched,
            cast(FakePoking, services.poking),
            cast(CachedConnections, services.connections),
            cast(FakeHealth, services.health),
            scrapes,
        )
    assert documented.missing == []


@pytest.fixture
def more() -> dict[str, Any]:
    """The services that a test replaces in `api`, by name."""
    return {}


@pytest.fixture
async def api(store: Store, more: dict[str, Any]) -> AsyncIterator[Api]:
    """The API without authentication, unless `more` has an authenticator."""
    async with serving(store, **more) as api:
        yield api


@pytest.fixture
def services() -> dict[str, Any]:
    """The services that a test replaces in `guarded`, by name."""
    return {}


@pytest.fixture
async def guarded(store: Store, tmp_path: Path, services: dict[str, Any]) -> AsyncIterator[Api]:
    """The API with authentication: the keys `TOKENS`, and the rules `NAMESPACES`."""
    file = tmp_path / "keys"
    file.write_text(KEYS_FILE)
    keyring = ApiKeyring(store, file=file, retention=7 * DAY, now=lambda: NOW)
    await keyring.open()
    authenticator = BearerAuthenticator(keyring, None)
    auth = {"keyring": keyring, "authenticator": authenticator, "namespaces": NAMESPACES}
    async with serving(store, **auth, **services) as api:
        yield api
