"""Liveness, readiness, metrics, and what a request logs."""

import re
from unittest.mock import AsyncMock

import pytest
from api_answers import problem_of
from api_fakes import Api, wait
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from structlog.testing import capture_logs


async def test_an_unexpected_error_is_a_500_without_its_text_and_is_logged_with_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.store, "insert", AsyncMock(side_effect=RuntimeError("secret internals")))
    with capture_logs() as logs:
        response = await api.post("/v1/waits", wait())
        await problem_of(response, 500, "internal-error")
    assert "secret internals" not in await response.text()
    assert [str(line["exc_info"]) for line in logs if line["log_level"] == "error"] == ["secret internals"]


async def test_lack_of_memory_during_a_request_is_a_503_and_shown_in_readyz(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.store, "insert", AsyncMock(side_effect=MemoryError()))
    with capture_logs() as logs:
        problem = await problem_of(await api.post("/v1/waits", wait()), 503, "unavailable")
    assert "memory is short" in problem["detail"]
    assert not [line for line in logs if "exc_info" in line]
    problem = await problem_of(await api.client.get("/readyz"), 503, "not-ready")
    assert "memory is short" in problem["detail"]


async def test_each_request_is_one_line_in_the_log(api: Api) -> None:
    with capture_logs() as logs:
        await api.client.get("/v1/waits?label.secret=x")
    [line] = logs
    assert (line["log_level"], line["path"], line["status"]) == ("debug", "/v1/waits", 200)


async def test_livez_answers_even_when_nothing_else_works(api: Api) -> None:
    api.health.draining = True
    api.health.store_error = "the disk is full"
    await api.store.set_writable(False)
    assert await api.get("/livez") == {"status": "alive", "loop_lag_seconds": 0.001}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("draining", True, "stopping"),
        ("store_error", "the disk is full", "cannot be written: the disk is full"),
        ("local_trouble", "memory is short", "trouble of its own: memory is short"),
        ("refused_outcomes", 3, "waits that have ended"),
    ],
)
async def test_readyz_says_why_the_daemon_is_not_ready(
    api: Api, name: str, value: object, reason: str
) -> None:
    assert await api.get("/readyz") == {"status": "ready", "warnings": []}
    api.health.warnings = ["the connections file cannot be read"]
    assert (await api.get("/readyz"))["warnings"] == ["the connections file cannot be read"]
    setattr(api.health, name, value)
    problem = await problem_of(await api.client.get("/readyz"), 503, "not-ready")
    assert reason in problem["detail"]


async def test_metrics_are_fresh_and_in_the_format_that_was_asked_for(api: Api) -> None:
    plain = await api.client.get("/metrics")
    assert plain.content_type == "text/plain"
    assert re.search(r"^waitd_build_info\{build=\"\",version=\"test\"\} 1", await plain.text(), re.MULTILINE)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
    modern = await api.client.get("/metrics", headers=accept)
    assert modern.content_type == "application/openmetrics-text"
    text = await modern.text()
    assert "waitd_waits" in {family.name for family in openmetrics(text)}  # type: ignore[no-untyped-call]  # theirs
    assert api.scrapes == [1, 1]
