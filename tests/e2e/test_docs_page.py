"""The page that shows the API, in a real browser that reaches nothing but the daemon."""

import asyncio
import re
from pathlib import Path

import pytest
from chromium import install_browser, shown
from daemon import daemon, world

pytestmark = pytest.mark.slow
NOWHERE_ELSE = "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


async def test_the_page_shows_every_operation_without_a_network(tmp_path: Path) -> None:
    if why_not := await asyncio.to_thread(install_browser):
        pytest.skip(why_not)
    async with world() as (_, _, client), daemon(tmp_path / "state") as waitd:
        async with client.get(f"{waitd.url}/openapi.json") as answer:
            document = await answer.json()
        page = await shown(f"{waitd.url}/docs", tmp_path / "profile", resolver_rules=NOWHERE_ELSE)
    assert set(re.findall(r'data-path="([^"]+)"', page)) == set(document["paths"])
    assert page.count('class="opblock-summary-path"') == sum(
        len({"get", "put", "post", "delete", "patch"} & set(path)) for path in document["paths"].values()
    )
