from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp.test_utils import TestClient, TestServer
from api_fakes import NOW, Api, FakeConnections, FakeHealth, FakePoking, WatchedStore, services_for

from waitd.api import build_application
from waitd.stores import Store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await Store.open(
        "sqlite+aiosqlite://", destination_of=lambda _, sink: str(sink["kind"]), now=lambda: NOW
    )
    yield store
    await store.close()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[Api]:
    scrapes: list[int] = []
    watched = WatchedStore(store)
    services = services_for(watched, scrapes)
    async with TestClient(TestServer(build_application(services))) as client:
        yield Api(
            client,
            services,
            watched,
            cast(FakePoking, services.poking),
            cast(FakeConnections, services.connections),
            cast(FakeHealth, services.health),
            scrapes,
        )
