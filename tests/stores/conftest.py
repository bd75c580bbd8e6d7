from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_values import News, WallClock, opened

from waitd.stores import Store


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "waitd.db"


@pytest.fixture
async def store(database: Path, clock: WallClock) -> AsyncIterator[Store]:
    async with opened(database, clock) as store:
        yield store


@pytest.fixture
def news(store: Store) -> News:
    news = News()
    news.listen(store)
    return news
