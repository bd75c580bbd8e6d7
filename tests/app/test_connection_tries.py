"""`ConnectionInspector` as the daemon builds it: what it asks the target of each type once."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from daemon import serving

from waitd.app.adapters import open_adapters
from waitd.bench.children import free_port
from waitd.metrics import Instruments
from waitd.settings import Settings

CONN_ID = "tried"


async def inspect(
    monkeypatch: pytest.MonkeyPatch, path: str | None = "/", **fields: Any
) -> Mapping[str, Any]:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(fields))
    async with open_adapters(Settings(), Instruments(version="test")) as adapters:
        return await adapters.inspector.inspect(CONN_ID, path)


async def test_a_database_is_asked_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    there = await inspect(monkeypatch, conn_type="sqlite", host=str(tmp_path / "a.db"))
    assert (there["problem"], there["tried"]["status"], there["tried"]["error"]) == (None, None, None)
    missing = await inspect(monkeypatch, conn_type="sqlite", host=str(tmp_path / "b.db"))
    assert "ENOENT" in missing["tried"]["error"]


@pytest.mark.parametrize(
    ("conn_type", "says"),
    [
        ("postgres", "refused"),
        ("mysql", "2003"),
        ("redis", "could not connect to Redis"),
        ("nats", "could not connect to NATS"),
        ("kafka", "could not connect to Kafka"),
        ("amqp", "could not connect to RabbitMQ"),
    ],
)
async def test_what_cannot_be_reached_is_said(
    conn_type: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        "conn_type": conn_type,
        "host": "127.0.0.1",
        "port": free_port(),
        "password": "planted",
    }
    view = await inspect(monkeypatch, **fields)
    assert view["problem"] is None
    assert says in view["tried"]["error"]
    assert "planted" not in json.dumps(dict(view))


@pytest.mark.parametrize("status", [200, 403])
async def test_aws_is_asked_who_it_is(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert (await request.post())["Action"] == "GetCallerIdentity"
        assert "Credential=AKIA/" in request.headers["Authorization"]
        assert "/eu-west-1/sts/" in request.headers["Authorization"]
        return web.Response(status=status)

    async with serving("POST", "/", answer) as url:
        extra = {"region_name": "eu-west-1", "service_config": {"sts": {"endpoint_url": url}}}
        view = await inspect(monkeypatch, conn_type="aws", login="AKIA", password="s", extra=extra)
    assert (view["tried"]["status"], view["tried"]["error"]) == (status, None)


@pytest.mark.parametrize("extra", [{"endpoint_url": ...}, {"service_config": {"s3": {"endpoint_url": ...}}}])
async def test_a_store_that_is_compatible_with_s3_is_asked_for_its_buckets(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert "/us-east-1/s3/" in request.headers["Authorization"]
        return web.Response(status=200)

    async with serving("GET", "/", answer) as url:
        own = json.loads(json.dumps(extra, default=lambda _: url))
        view = await inspect(monkeypatch, conn_type="aws", login="AKIA", password="s", extra=own)
    assert (view["tried"]["status"], view["tried"]["error"]) == (200, None)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"conn_type": "dbt_cloud"}, "https://cloud.getdbt.com"),
        ({"conn_type": "github"}, "https://api.github.com"),
        ({"conn_type": "snowflake", "extra": {"account": "a-b"}}, "https://a-b.snowflakecomputing.com"),
        ({"conn_type": "databricks", "host": "adb.example"}, "https://adb.example"),
    ],
)
async def test_a_vendors_host_is_shown(
    fields: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await inspect(monkeypatch, None, password="t", **fields)
    assert (view["problem"], view["tried"]) == (None, None)
    assert view["url"].startswith(url)


async def test_a_vendor_is_asked_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=404)

    async with serving("GET", "/zen", answer) as url:
        view = await inspect(monkeypatch, "/zen", conn_type="github", host=url, password="t")
    assert view["tried"]["status"] == 404
    assert seen == ["Bearer t"]


async def test_what_a_vendor_needs_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    view = await inspect(monkeypatch, conn_type="snowflake", password="t")
    assert (view["problem"], view["tried"]) == ("it has no host", None)
