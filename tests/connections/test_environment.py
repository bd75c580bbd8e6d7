"""Connections in environment variables."""

import pytest

from waitd.connections.environment import EnvironmentResolver
from waitd.core.errors import ConnectionUnavailable, UnknownConnection


async def test_a_conn_id_is_looked_up_in_upper_case() -> None:
    resolver = EnvironmentResolver({"AIRFLOW_CONN_MY-API.V1": "http://example.org"})
    connection = await resolver.lookup("my-api.v1")
    assert connection.base_url() == "http://example.org"
    assert connection.conn_id == "my-api.v1"


async def test_a_changed_variable_takes_effect() -> None:
    environ: dict[str, str] = {}
    resolver = EnvironmentResolver(environ)
    with pytest.raises(UnknownConnection, match="AIRFLOW_CONN_API is not set"):
        await resolver.lookup("api")
    environ["AIRFLOW_CONN_API"] = "http://example.org"
    assert (await resolver.lookup("api")).host == "example.org"


async def test_an_empty_variable_is_an_unknown_connection() -> None:
    with pytest.raises(UnknownConnection):
        await EnvironmentResolver({"AIRFLOW_CONN_API": ""}).lookup("api")


async def test_a_malformed_value_is_unavailable_and_not_quoted() -> None:
    resolver = EnvironmentResolver({"AIRFLOW_CONN_API": '{"password": "planted"'})
    with pytest.raises(
        ConnectionUnavailable, match="AIRFLOW_CONN_API cannot be read: it is not a JSON object"
    ) as raised:
        await resolver.lookup("api")
    assert "planted" not in str(raised.value)
    assert raised.value.__cause__ is None
