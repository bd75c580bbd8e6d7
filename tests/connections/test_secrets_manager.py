"""AWS Secrets Manager, as moto's server answers."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import botocore.session
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import ThreadedMotoServer

from waitd.connections.secrets_manager import SecretsManagerLocation, SecretsManagerResolver
from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import EgressGuard

REGION = "eu-west-1"
NOW = 1_795_228_867.0


class StaticKeys:
    """Returns the first pair of keys, and the next one after each refresh; the last one stays."""

    def __init__(self, *keys: AwsKeys) -> None:
        self.pairs = list(keys or (AwsKeys("AKIA", "planted"),))
        self.refreshes = 0

    async def get(self, source: AwsKeySource) -> AwsKeys:
        return self.pairs[min(self.refreshes, len(self.pairs) - 1)]

    async def refresh(self, source: AwsKeySource) -> AwsKeys:
        self.refreshes += 1
        return await self.get(source)


class Secrets:
    """A client of moto's Secrets Manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        session = botocore.session.Session()
        self._client: Any = session.create_client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="AKIA",
            aws_secret_access_key="x",
        )

    def put(self, name: str, value: str) -> None:
        self._client.create_secret(Name=name, SecretString=value)

    def delete(self, name: str) -> None:
        self._client.delete_secret(SecretId=name)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def secrets() -> Iterator[Secrets]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION].reset()  # servers of one process share their state
    host, port = server.get_host_and_port()
    opened = Secrets(f"http://{host}:{port}")
    try:
        yield opened
    finally:
        opened.close()
        server.stop()


@asynccontextmanager
async def open_resolver(
    url: str, keys: StaticKeys | None = None, **location: Any
) -> AsyncIterator[SecretsManagerResolver]:
    async with SecretsManagerResolver(
        SecretsManagerLocation(REGION, endpoint=url, **location),
        keys or StaticKeys(),
        EgressGuard(),
        now=lambda: NOW,
    ) as resolver:
        yield resolver


async def lookup(url: str, conn_id: str, keys: StaticKeys | None = None, **location: Any) -> Connection:
    """Looks the connection up once, with a new resolver."""
    async with open_resolver(url, keys, **location) as resolver:
        return await resolver.lookup(conn_id)


async def test_secrets_are_uris_or_json_with_airflows_field_names(secrets: Secrets) -> None:
    secrets.put("airflow/connections/uri", "http://u:p%40@h.example/https")
    secrets.put(
        "airflow/connections/team/json",
        json.dumps({"conn_type": "http", "host": "h", "login": "u", "port": 81}),
    )
    secrets.put("airflow/connections/rds", json.dumps({"engine": "postgres", "username": "u", "pass": "p", "server": "s", "database": "d", "other": 1}))  # fmt: skip
    async with open_resolver(secrets.url) as resolver:
        assert (await resolver.lookup("uri")).password == "p@"
        assert (await resolver.lookup("team/json")).port == 81
        rds = await resolver.lookup("rds")
        assert (rds.conn_type, rds.login, rds.password, rds.host, rds.schema) == (
            "postgres",
            "u",
            "p",
            "s",
            "d",
        )
        with pytest.raises(UnknownConnection):
            await resolver.lookup("missing")


async def test_a_deleted_secret_is_unknown(secrets: Secrets) -> None:
    secrets.put("airflow/connections/gone", "http://h")
    secrets.delete("airflow/connections/gone")
    with pytest.raises(UnknownConnection):
        await lookup(secrets.url, "gone")


@pytest.mark.parametrize(
    ("prefix", "name"), [("team/conns", "team/conns/api"), ("team/", "team/api"), ("", "api")]
)
async def test_the_prefix_is_a_setting(secrets: Secrets, prefix: str, name: str) -> None:
    secrets.put(name, "http://prefixed")
    assert (await lookup(secrets.url, "api", prefix=prefix)).host == "prefixed"


@pytest.mark.parametrize("value", ["planted", '{"planted', '{"host": ["planted"]}', "[]", "{}x"])
async def test_an_invalid_secret_is_named_but_not_quoted(secrets: Secrets, value: str) -> None:
    secrets.put("airflow/connections/odd", value)
    with pytest.raises(ConnectionUnavailable, match="the secret of odd cannot be read") as raised:
        await lookup(secrets.url, "odd")
    assert "planted" not in str(raised.value)


async def test_an_unreachable_service_is_unavailable() -> None:
    with pytest.raises(ConnectionUnavailable, match="could not connect to AWS Secrets Manager"):
        await lookup("http://127.0.0.1:1", "api")


@pytest.mark.parametrize("region", ["eu-west-1.evil.example/", "", "../x"])
def test_a_malformed_region_is_an_error(region: str) -> None:
    with pytest.raises(ValueError):
        SecretsManagerResolver(SecretsManagerLocation(region), StaticKeys(), EgressGuard(), now=lambda: NOW)
