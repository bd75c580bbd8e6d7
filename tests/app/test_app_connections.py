"""Connections built from settings: the order of resolvers, and where requests may go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from waitd.app.connections import RESOLVERS, open_connections, outgoing_from_settings
from waitd.connections.authorizer import AuthorizedConnections
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection, WaitdError
from waitd.metrics import Instruments
from waitd.settings import Settings


@asynccontextmanager
async def connections(**settings: Any) -> AsyncIterator[AuthorizedConnections]:
    effective = Settings(**settings)
    made = open_connections(effective, outgoing_from_settings(effective), Instruments(version="test"))
    async with made as opened:
        yield opened


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same conn_id in three places."""
    file, directory = tmp_path / "connections.toml", tmp_path / "secrets"
    directory.mkdir()
    file.write_text('api = "http://file"\nonly_file = "http://file"')
    (directory / "api").write_text("http://directory")
    (directory / "only_directory").write_text("http://directory")
    monkeypatch.setenv("AIRFLOW_CONN_API", "http://environment")
    return {"connections_file": file, "connections_directory": directory}


@pytest.mark.parametrize(
    ("order", "host"),
    [
        (("environment", "file", "directory"), "environment"),
        (("file", "environment"), "file"),
        (("directory", "file", "environment"), "directory"),
    ],
)
async def test_the_first_place_that_knows_a_connection_wins(
    places: dict[str, Any], order: tuple[str, ...], host: str
) -> None:
    async with connections(**places, connection_resolvers=order) as resolved:
        assert (await resolved.get("api")).host == host


async def test_by_default_all_that_is_configured_is_asked(places: dict[str, Any]) -> None:
    assert Settings().connection_resolvers == tuple(RESOLVERS)
    async with connections(**places) as resolved:
        assert (await resolved.get("api")).host == "environment"
        assert (await resolved.get("only_file")).host == "file"
        assert (await resolved.get("only_directory")).host == "directory"
        with pytest.raises(UnknownConnection):
            await resolved.get("nowhere")


async def test_a_place_that_cannot_say_ends_the_look_up(places: dict[str, Any]) -> None:
    down = {
        "vault_url": "http://127.0.0.1:1",
        "vault_token": "t",
        "connection_resolvers": ("vault", "environment"),
    }
    async with connections(**places, **down) as resolved:
        with pytest.raises(ConnectionUnavailable):
            await resolved.get("api")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"vault_url": "http://v"}, "vault_token"),
        ({"vault_url": "http://v", "vault_auth": "approle"}, "vault_role_id"),
        ({"vault_url": "vault.example", "vault_token": "planted"}, "http"),
        ({"vault_url": "http://v", "vault_token": "planted", "vault_mount_point": "a/../b"}, "segment"),
        (
            {"vault_url": "http://v", "vault_token": "planted", "vault_ca_file": "/nowhere.pem"},
            "No such file",
        ),
        ({"secrets_manager_region": "evil.example/"}, "region"),
        ({"secrets_manager_region": "eu-west-1", "secrets_manager_endpoint": "ftp://h"}, "http"),
    ],
)
async def test_a_place_that_is_set_up_wrongly_is_named_at_the_start(
    settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(WaitdError, match=complaint) as raised:
        async with connections(**settings):
            pass
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"bind": "127.0.0.1:0"}, True),
        ({"bind": "[::1]:0"}, True),
        ({"bind": "0.0.0.0:0"}, False),
        ({"bind": "10.0.0.1:0"}, False),
        ({"bind": "0.0.0.0:0", "egress_allow": ("10.0.0.0/8",)}, True),
        ({"bind": "127.0.0.1:0", "egress_deny": ("10.1.2.3",)}, False),
    ],
)
def test_private_networks_are_open_to_submitters_on_loopback_only(
    settings: dict[str, Any], passes: bool
) -> None:
    outgoing = outgoing_from_settings(Settings(**settings))
    if passes:
        outgoing.check_url("http://10.1.2.3/x", HostSource.SUBMITTER)
    else:
        with pytest.raises(EgressRefused):
            outgoing.check_url("http://10.1.2.3/x", HostSource.SUBMITTER)
