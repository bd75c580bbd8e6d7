"""What is made of Airflow's connections for vendors' APIs: addresses, ways to authenticate, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
from preset_probes import KnownConnections, kinds
from raw_server import answer, raw_server

from waitd.core.connections.auth import build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, NotSupported, UnknownConnection
from waitd.core.waits.verdict import Unreachable
from waitd.probes.presets.connections import NO_DEFAULTS as NOTHING
from waitd.probes.presets.connections import VendorConnections, vendor_connection, vendor_name
from waitd.probes.presets.loading import built_in_presets


def made(kind: str, region: str | None = None, **fields: Any) -> Connection:
    """The connection as this kind needs it."""
    table = built_in_presets()[kind].file.connection
    return vendor_connection(Connection("c", **fields), table, region, NOTHING)


ADDRESSES: list[tuple[str, dict[str, Any], str]] = [
    ("airbyte.job", {"host": "http://airbyte:8000"}, "http://airbyte:8000/api/public/v1"),
    ("airbyte.job", {"host": "airbyte", "port": 8000}, "http://airbyte:8000/api/public/v1"),
    ("airbyte.job", {"host": "https://api.airbyte.com/v1"}, "https://api.airbyte.com/v1"),
    ("airbyte.job", {"host": "https://proxy/airbyte/api/public/v1"}, "https://proxy/airbyte/api/public/v1"),
    ("airbyte.config_job", {"host": "http://airbyte:8000"}, "http://airbyte:8000"),
    ("databricks.run", {"host": "adb-1.azuredatabricks.net", "password": "t"}, "https://adb-1.azuredatabricks.net"),
    ("databricks.run", {"host": "http://127.0.0.1:9", "password": "t"}, "http://127.0.0.1:9"),
    ("dbt.cloud", {"login": "1", "password": "t"}, "https://cloud.getdbt.com"),
    ("dbt.cloud", {"host": "emea.dbt.com", "password": "t"}, "https://emea.dbt.com"),
    ("snowflake.sql", {"password": "t", "extra": {"account": "org-account"}}, "https://org-account.snowflakecomputing.com"),
    ("github.run", {}, "https://api.github.com"),
    ("github.run", {"host": "https://github.example.org/api/v3"}, "https://github.example.org/api/v3"),
    ("prefect.flow_run", {"host": "prefect", "port": 4200}, "http://prefect:4200/api"),
    ("bigquery.job", {"extra": {"keyfile_dict": "{}"}}, "https://bigquery.googleapis.com"),
    ("glue.job", {"extra": {"region_name": "eu-west-1"}}, "https://glue.eu-west-1.amazonaws.com"),
    ("emr.step", {"extra": {"region_name": "cn-north-1"}}, "https://elasticmapreduce.cn-north-1.amazonaws.com.cn"),
    ("stepfunctions.execution", {"extra": {"region_name": "us-east-1"}}, "https://states.us-east-1.amazonaws.com"),
    ("glue.job", {"host": "ignored", "extra": {"region_name": "r", "endpoint_url": "http://moto:5000"}}, "http://moto:5000"),
    (
        "emr.step",
        {"extra": {"region_name": "r", "endpoint_url": "http://a", "service_config": {"emr": {"endpoint_url": "http://b"}}}},
        "http://b",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "base"), ADDRESSES, ids=[f"{a[0]} {a[2]}" for a in ADDRESSES])
def test_where_a_connection_leads(kind: str, fields: Mapping[str, Any], base: str) -> None:
    assert made(kind, **fields).base_url() == base


def test_the_waits_own_region_wins() -> None:
    assert (
        made("athena.query", "us-west-2", extra={"region_name": "eu-west-1"}).host
        == "https://athena.us-west-2.amazonaws.com"
    )


def headers(connection: Connection) -> dict[str, str]:
    return dict(build_credentials(connection).headers)


def test_how_it_authenticates() -> None:
    assert headers(made("databricks.run", host="h", login="token", password="t")) == {
        "Authorization": "Bearer t"
    }
    assert headers(made("dbt.cloud", password="t")) == {"Authorization": "Token t"}
    assert headers(made("github.run")) == {}
    assert headers(made("airbyte.job", host="h")) == {}
    grant = build_credentials(
        made("airbyte.job", host="http://h", login="id", password="secret")
    ).token_request
    assert grant is not None
    assert grant.url == "http://h/api/public/v1/applications/token"
    grant = build_credentials(
        made("airbyte.config_job", host="http://h", login="id", password="secret")
    ).token_request
    assert grant is not None
    assert grant.url == "http://h/api/public/v1/applications/token"
    azure = build_credentials(
        made("adf.pipeline", login="id", password="secret", extra={"tenantId": "t-1"})
    ).token_request
    assert azure is not None
    assert azure.url == "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
    assert ("scope", "https://management.azure.com/.default") in azure.fields
    signing = build_credentials(
        made("emr.serverless", login="AKIA", password="s", extra={"region_name": "eu-west-1"})
    ).signing
    assert signing is not None
    assert (signing.service, signing.region) == ("emr-serverless", "eu-west-1")


def test_what_the_connection_says_itself_wins() -> None:
    basic = made("airbyte.job", host="h", login="u", password="p", extra={"auth_type": "basic"})
    assert headers(basic)["Authorization"].startswith("Basic ")
    own = made("databricks.run", host="h", extra={"headers": {"Authorization": "Custom x"}})
    assert headers(own) == {"Authorization": "Custom x"}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("airbyte.job", {}, "it has no host"),
    ("databricks.run", {"host": "h"}, "no credentials, and auth_type bearer needs some"),
    ("bigquery.job", {}, "no credentials, and auth_type google_service_account needs some"),
    ("snowflake.sql", {"password": "t"}, "it has no host"),
    ("snowflake.sql", {"password": "t", "extra": {"account": "evil.example.org/"}}, "it has no host"),
    ("glue.job", {}, "no region"),
    ("glue.job", {"extra": {"region_name": "../x"}}, "not the name of a region"),
    ("glue.job", {"login": "AKIA", "extra": {"region_name": "r"}}, "needs both login"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), WRONG, ids=[f"{w[0]} {w[2]}" for w in WRONG])
def test_what_it_lacks_is_said(kind: str, fields: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        made(kind, **fields)
    assert words in str(caught.value)


async def test_a_connection_that_is_at_hand_is_refused_at_submit() -> None:
    async with kinds(Connection("databricks_default", host="h")) as probes:
        with pytest.raises(
            NotSupported,
            match=r"/databricks_conn_id: the connection cannot be used for databricks\.run: it has no credentials",
        ):
            probes.probe("databricks.run").parse({"run_id": 1}, namespace="default")


async def test_one_that_is_looked_up_only_then_makes_the_wait_wait() -> None:
    known = KnownConnections({"databricks_default": Connection("databricks_default", host="h")}, cached=False)
    async with kinds() as probes:
        probes.connections._connections = known
        verdict = await probes.poke("databricks.run", {"run_id": 1})
    assert verdict == Unreachable(
        "connection_invalid",
        "The connection cannot be used for this wait: it has no credentials, and auth_type bearer needs some.",
    )


async def test_what_was_made_is_the_same_object_until_the_connection_changes() -> None:
    known = KnownConnections({"airbyte_default": Connection("airbyte_default", host="http://a")})
    tables = {"airbyte.job": built_in_presets()["airbyte.job"].file.connection}
    connections = VendorConnections(known, tables, now=lambda: 0.0)
    name = vendor_name("airbyte_default", "airbyte.job")
    first = await connections.get(name)
    assert first.conn_id == name
    assert await connections.get(name) is first is connections.cached_any(name)
    known.known["airbyte_default"] = Connection("airbyte_default", host="http://b")
    assert connections.cached_any(name) is None
    assert (await connections.refresh(name)).host == "http://b/api/public/v1"


async def test_other_names_are_connections_as_they_are() -> None:
    plain = Connection("team//x", host="h")
    connections = VendorConnections(KnownConnections({"team//x": plain}), {}, now=lambda: 0.0)
    assert (
        await connections.get("team//x")
        is await connections.refresh("team//x")
        is connections.cached_any("team//x")
        is plain
    )
    with pytest.raises(UnknownConnection):
        await connections.get("absent")


# ---------------------------------------------------------------- AWS without a connection


async def test_the_environment_stands_in_for_aws_default(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"QueryExecution": {"Status": {"State": "RUNNING"}}}'
    async with raw_server([answer(200, body)]) as server, kinds() as probes:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        probe = probes.probe("athena.query")
        target = probe.parse({"query_execution_id": "q"}, namespace="default")
        assert (target.conn_id, target.account) == (None, "aws_default")
        named = probe.parse({"query_execution_id": "q", "aws_conn_id": "aws_default"}, namespace="default")
        assert named.conn_id == "aws_default"
        nowhere = await probes.poke("athena.query", {"query_execution_id": "q"})
        assert isinstance(nowhere, Unreachable)
        assert "no region" in nowhere.message
        made_of = await probes.connections.get(vendor_name("aws_default", "athena.query", "eu-west-1"))
        assert made_of.host == server.url
        assert made_of.extra["auth_type"] == "aws_sigv4"
        absent = await probes.poke("athena.query", {"query_execution_id": "q", "aws_conn_id": "mine"})
        assert isinstance(absent, Unreachable)
        assert absent.reason == "unknown_connection"


async def test_a_resolver_that_is_down_is_no_absence() -> None:
    class Down(KnownConnections):
        async def get(self, conn_id: str) -> Connection:
            raise ConnectionUnavailable("down")

    connections = VendorConnections(
        Down({}), {"glue.job": built_in_presets()["glue.job"].file.connection}, now=lambda: 0.0
    )
    with pytest.raises(ConnectionUnavailable):
        await connections.get(vendor_name("aws_default", "glue.job", "eu-west-1"))
