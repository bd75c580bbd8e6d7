"""The API's documentation page, in a real browser that can reach only the daemon."""

import re
from pathlib import Path

import pytest
from chromium import rendered_html, require_browser
from daemon import daemon
from preset_waits import get

pytestmark = pytest.mark.slow
ONLY_LOOPBACK = "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


async def test_the_page_lists_every_operation_without_a_network(tmp_path: Path) -> None:
    require_browser()
    async with daemon(tmp_path / "state") as waitd:
        document = await get(f"{waitd.url}/openapi.json")
        page = await rendered_html(f"{waitd.url}/docs", tmp_path / "profile", resolver_rules=ONLY_LOOPBACK)
    assert set(re.findall(r'data-path="([^"]+)"', page)) == set(document["paths"])
    assert page.count('class="opblock-summary-path"') == sum(
        len({"get", "put", "post", "delete", "patch"} & set(path)) for path in document["paths"].values()
    )
