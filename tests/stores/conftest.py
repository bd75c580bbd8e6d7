from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_values import RecordingListener, WallClock, opened

from waitd.stores import Store


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "waitd.db"


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest.fixture
async def store(database: Path, clock: WallClock, listener: RecordingListener) -> AsyncIterator[Store]:
    async with opened(database, clock, listener) as store:
        yield store
