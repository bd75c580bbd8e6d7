"""Airflow's connections, completed for vendors' APIs: addresses, credentials, and refusals."""

from collections.abc import Mapping
from typing import Any

import pytest
from fakes import FakeConnections
from preset_probes import kinds
from raw_server import Poked, answer, poke_group, raw_server

from waitd.core.connections.auth import build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, NotSupported, UnknownConnection
from waitd.core.waits.verdict import Unreachable
from waitd.probes.presets.connections import NO_DEFAULTS, VendorConnections, vendor_connection, vendor_name
from waitd.probes.presets.loading import built_in_presets


def completed(kind: str, region: str | None = None, **fields: Any) -> Connection:
    """Completes a connection with these fields for a kind."""
    table = built_in_presets()[kind].file.connection
    return vendor_connection(Connection("c", **fields), table, region, NO_DEFAULTS)


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
def test_the_base_url_of_a_completed_connection(kind: str, fields: Mapping[str, Any], base: str) -> None:
    assert completed(kind, **fields).base_url() == base


def test_the_region_of_the_wait_precedes_that_of_the_connection() -> None:
    athena = completed("athena.query", "us-west-2", extra={"region_name": "eu-west-1"})
    assert athena.host == "https://athena.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("kind", "fields", "authorization"),
    [
        ("databricks.run", {"host": "h", "login": "token", "password": "t"}, "Bearer t"),
        ("dbt.cloud", {"password": "t"}, "Token t"),
        ("github.run", {}, None),
        ("airbyte.job", {"host": "h"}, None),
        # What the connection says itself precedes the preset's way.
        ("airbyte.job", {"host": "h", "login": "u", "password": "p", "extra": {"auth_type": "basic"}}, "Basic dTpw"),
        ("databricks.run", {"host": "h", "extra": {"headers": {"Authorization": "Custom x"}}}, "Custom x"),
    ],
)  # fmt: skip
def test_the_authorization_header_of_a_completed_connection(
    kind: str, fields: Mapping[str, Any], authorization: str | None
) -> None:
    headers = dict(build_credentials(completed(kind, **fields)).headers)
    assert headers == ({} if authorization is None else {"Authorization": authorization})


@pytest.mark.parametrize(
    ("kind", "fields", "url"),
    [
        ("airbyte.job", {"host": "http://h"}, "http://h/api/public/v1/applications/token"),
        ("airbyte.config_job", {"host": "http://h"}, "http://h/api/public/v1/applications/token"),
        ("adf.pipeline", {"extra": {"tenantId": "t-1"}}, "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"),
    ],
)  # fmt: skip
def test_the_token_request_of_a_completed_connection(kind: str, fields: Mapping[str, Any], url: str) -> None:
    request = build_credentials(completed(kind, login="id", password="secret", **fields)).token_request
    assert request is not None
    assert request.url == url
    scope = ("scope", "https://management.azure.com/.default")
    assert (scope in request.fields) == (kind == "adf.pipeline")


def test_aws_connections_sign_their_requests() -> None:
    aws = completed("emr.serverless", login="AKIA", password="s", extra={"region_name": "eu-west-1"})
    signing = build_credentials(aws).signing
    assert signing is not None
    assert (signing.service, signing.region) == ("emr-serverless", "eu-west-1")


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
def test_an_error_says_what_a_connection_lacks(kind: str, fields: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        completed(kind, **fields)


async def test_an_unusable_cached_connection_is_refused_at_submit() -> None:
    async with kinds(Connection("databricks_default", host="h")) as probes:
        with pytest.raises(
            NotSupported,
            match=r"/databricks_conn_id: the connection cannot be used for databricks\.run: it has no credentials",
        ):
            probes.probe("databricks.run").parse({"run_id": 1}, namespace="default")


async def test_an_unusable_connection_that_was_not_cached_at_submit_is_unreachable() -> None:
    async with kinds() as probes:
        probe = probes.probe("databricks.run")
        wait = Poked(probe.parse({"run_id": 1}, namespace="default"))
        probes.known.by_id["databricks_default"] = Connection("databricks_default", host="h")
        [verdict] = await poke_group(probe, [wait])
    assert verdict == Unreachable(
        "connection_invalid",
        "The connection cannot be used for this wait: it has no credentials, and auth_type bearer needs some.",
    )


async def test_a_completed_connection_is_cached_until_the_original_changes() -> None:
    async with kinds(Connection("airbyte_default", host="http://a")) as probes:
        connections, name = probes.connections, vendor_name("airbyte_default", "airbyte.job")
        first = await connections.get(name)
        assert first.conn_id == name
        assert await connections.get(name) is first is connections.cached_any(name)
        probes.known.by_id["airbyte_default"] = Connection("airbyte_default", host="http://b")
        assert connections.cached_any(name) is None
        assert (await connections.refresh(name)).host == "http://b/api/public/v1"


async def test_other_connections_are_not_completed() -> None:
    plain = Connection("team//x", host="h")
    connections = VendorConnections(FakeConnections(plain), {}, now=lambda: 0.0)
    assert await connections.get("team//x") is await connections.refresh("team//x") is plain
    assert connections.cached_any("team//x") is plain
    with pytest.raises(UnknownConnection):
        await connections.get("absent")


# ---------------------------------------------------------------- AWS without a connection


async def test_the_environment_replaces_a_missing_aws_default(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"QueryExecution": {"Status": {"State": "RUNNING"}}}'
    async with raw_server([answer(200, body)]) as server, kinds() as probes:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        probe = probes.probe("athena.query")
        target = probe.parse({"query_execution_id": "q"}, namespace="default")
        assert (target.conn_id, target.account) == (None, "aws_default")
        named = probe.parse({"query_execution_id": "q", "aws_conn_id": "aws_default"}, namespace="default")
        assert named.conn_id == "aws_default"
        without_region = await probes.poke("athena.query", {"query_execution_id": "q"})
        assert isinstance(without_region, Unreachable)
        assert "no region" in without_region.message
        from_environment = await probes.connections.get(
            vendor_name("aws_default", "athena.query", "eu-west-1")
        )
        assert from_environment.host == server.url
        assert from_environment.extra["auth_type"] == "aws_sigv4"
        absent = await probes.poke("athena.query", {"query_execution_id": "q", "aws_conn_id": "mine"})
        assert isinstance(absent, Unreachable)
        assert absent.reason == "unknown_connection"


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("athena.query", "https://athena-fips.us-west-2.amazonaws.com"),
        ("stepfunctions.execution", "https://states-fips.us-west-2.amazonaws.com"),
        ("emr.step", "https://elasticmapreduce-fips.us-west-2.amazonaws.com"),
        ("batch.job", "https://fips.batch.us-west-2.amazonaws.com"),
    ],
)
async def test_a_connection_may_choose_the_fips_endpoints(kind: str, host: str) -> None:
    extra = {"config_kwargs": {"use_fips_endpoint": True}}
    account = Connection("mine", "aws", login="AKIA", password="s", extra=extra)
    async with kinds(account) as probes:
        completed = await probes.connections.get(vendor_name("mine", kind, "us-west-2"))
    assert completed.host == host


async def test_extras_that_a_preset_cannot_use_are_refused_by_name() -> None:
    extra = {"token": "planted", "service_principal_oauth": True}
    databricks = Connection("databricks_default", "databricks", host="https://h.example", extra=extra)
    async with kinds(databricks) as probes:
        with pytest.raises(ValueError, match="service_principal_oauth"):
            await probes.connections.get(vendor_name("databricks_default", "databricks.run"))


async def test_the_environment_does_not_replace_a_connection_whose_backend_is_down() -> None:
    async with kinds() as probes:
        probes.known.down = True
        with pytest.raises(ConnectionUnavailable):
            await probes.connections.get(vendor_name("aws_default", "glue.job", "eu-west-1"))
