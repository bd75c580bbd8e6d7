from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer
from api_fakes import NOW, Api, FakeConnections, FakeHealth, FakePoking, WatchedStore, services_for
from documented import Documented

from waitd.api import ApiRunner, build_application
from waitd.stores import Store


class ApiServer(TestServer):
    """The application on the server that the daemon uses."""

    async def _make_runner(self, **_: Any) -> ApiRunner:
        return ApiRunner(self.app)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await Store.open(
        "sqlite+aiosqlite://", destination_of=lambda _, sink: str(sink["kind"]), now=lambda: NOW
    )
    yield store
    await store.close()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[Api]:
    """The API on a real port. Whatever it answers in a test must stand in its OpenAPI document."""
    scrapes: list[int] = []
    watched = WatchedStore(store)
    services = services_for(watched, scrapes)
    application = build_application(services)
    documented = Documented()
    application.on_response_prepare.append(documented.note)
    async with TestClient(ApiServer(application)) as client:
        documented.document = await (await client.get("/openapi.json")).json()
        yield Api(
            client,
            services,
            watched,
            cast(FakePoking, services.poking),
            cast(FakeConnections, services.connections),
            cast(FakeHealth, services.health),
            scrapes,
        )
    assert documented.missing == []
