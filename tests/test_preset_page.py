"""The page of presets matches their files, and every wait on it is accepted."""

import json
import re

import pytest
from preset_page import PAGE

from waitd.app import open_adapters
from waitd.metrics import Instruments
from waitd.models import parse_wait
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.presets.page import page
from waitd.settings import Settings

TEXT = PAGE.read_text("utf-8")


def test_the_page_matches_the_files() -> None:
    assert page(built_in_presets()) == TEXT, "run `python tests/preset_page.py`"


def test_every_kind_has_a_row_that_links_to_its_section() -> None:
    titles = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert sorted(links) == sorted(re.sub(r"[^a-z0-9_-]", "", title.lower()) for title in titles)
    assert len(links) == len(built_in_presets())


async def test_every_wait_on_the_page_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = set()
    async with open_adapters(Settings(), Instruments(version="test")) as adapters:
        for text in re.findall(r"^```json\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE):
            wait = json.loads(text)
            if "http" in wait["kind"]:
                wait["params"].setdefault("http_conn_id", "api")
            parse_wait(wait)
            probe: object = adapters.probes[wait["kind"]]
            if "submit" in wait:
                probe.parse_submit(wait["submit"], wait["params"], namespace="default")  # type: ignore[attr-defined]
            else:
                probe.parse(wait["params"], namespace="default")  # type: ignore[attr-defined]
            accepted.add(wait["kind"])
    assert accepted == set(built_in_presets())


async def test_the_page_says_how_every_preset_was_tested() -> None:
    for preset in built_in_presets().values():
        assert preset.file.pace.not_found_grace == 300
        assert preset.file.tested in TEXT
