"""Connections built from settings: the order of resolvers, and where requests may go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from waitd.app.connections import RESOLVERS, open_connections, open_egress
from waitd.connections.authorizer import AuthorizedConnections
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection, WaitdError
from waitd.metrics import Instruments
from waitd.settings import Settings


@asynccontextmanager
async def connections(**settings: Any) -> AsyncIterator[AuthorizedConnections]:
    effective, instruments = Settings(**settings), Instruments(version="test")
    async with (
        open_egress(effective, instruments) as egress,
        open_connections(effective, egress, instruments) as opened,
    ):
        yield opened


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a file and a directory with connections; the environment has some, too."""
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
async def test_the_first_resolver_that_knows_a_connection_wins(
    sources: dict[str, Any], order: tuple[str, ...], host: str
) -> None:
    async with connections(**sources, connection_resolvers=order) as resolved:
        assert (await resolved.get("api")).host == host


async def test_by_default_every_configured_resolver_is_used(sources: dict[str, Any]) -> None:
    assert Settings().connection_resolvers == tuple(RESOLVERS)
    async with connections(**sources) as resolved:
        assert (await resolved.get("api")).host == "environment"
        assert (await resolved.get("only_file")).host == "file"
        assert (await resolved.get("only_directory")).host == "directory"
        with pytest.raises(UnknownConnection):
            await resolved.get("nowhere")


async def test_a_broken_entry_of_the_file_is_reported_at_the_start(sources: dict[str, Any]) -> None:
    sources["connections_file"].write_text('api = "http://planted@planted@h:port"\nonly_file = "http://file"')
    with capture_logs() as logs:
        async with connections(**sources) as resolved:
            assert (await resolved.get("only_file")).host == "file"
    [line] = [line for line in logs if line["event"] == "connection_unreadable"]
    assert line["error"].startswith("api in ")
    assert "planted" not in str(line)


async def test_an_unavailable_resolver_ends_the_look_up(sources: dict[str, Any]) -> None:
    down = {
        "vault_url": "http://127.0.0.1:1",
        "vault_token": "t",
        "connection_resolvers": ("vault", "environment"),
    }
    async with connections(**sources, **down) as resolved:
        with pytest.raises(ConnectionUnavailable):
            await resolved.get("api")


@pytest.mark.parametrize(
    ("settings", "message"),
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
async def test_a_resolver_with_invalid_settings_is_refused_at_the_start(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(WaitdError, match=message) as raised:
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
async def test_submitters_reach_private_networks_on_loopback_only(
    settings: dict[str, Any], passes: bool
) -> None:
    async with open_egress(Settings(**settings), Instruments(version="test")) as egress:
        if passes:
            egress.check_url("http://10.1.2.3/x", HostSource.SUBMITTER)
        else:
            with pytest.raises(EgressRefused):
                egress.check_url("http://10.1.2.3/x", HostSource.SUBMITTER)
