from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_fakes import DAY, KEYS_FILE, NAMESPACES, NOW, Api, PlainProbe, WatchedStore
from body_checks import LoadingProbe, PacedProbe
from served_api import serving

from waitd.api.submission.validation import Submissions
from waitd.auth import ApiKeyring, BearerAuthenticator
from waitd.probes.http.probe import HttpProbe
from waitd.stores import open_database


@pytest.fixture
async def store() -> AsyncIterator[WatchedStore]:
    store = WatchedStore(await open_database("sqlite+aiosqlite://"))
    yield store
    await store.close()


@pytest.fixture
def more() -> dict[str, Any]:
    """The dependencies that a test replaces, by name."""
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
    keyring = ApiKeyring(store, file=file, kept_since=lambda: NOW - 7 * DAY, now=lambda: NOW)
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
        yield Submissions(replace(api.dependencies, probes=probes))
