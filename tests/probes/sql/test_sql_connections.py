"""The connections of the kind `sql`: logins, TLS, unavailable servers, and unusable connections."""

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from daemon import until
from databases import MariaDb, Postgres, PostgresWithTls, has_debian_postgres, running_server
from installation import require_apt_package
from pymysql.constants import CLIENT
from raw_server import Poked, ScriptedConnections
from sql_pokes import Database, SqlPoker, database_servers
from stream_server import reset, stream_server

from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Failure, Success, Unreachable
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.outgoing.tls_sessions import MinimumVersion
from waitd.probes.sql.probe import SqlProbe
from waitd.probes.sql.rows import SelectedRows, masked


@database_servers
async def test_a_refused_login_is_refreshed_once(database: Database) -> None:
    right = database.connection
    wrong = Connection("db", right.conn_type, right.host, right.port, right.schema, right.login, "wrong-pw")
    for refreshed, expected in ((right, Success), (wrong, Failure)):
        connections = ScriptedConnections([wrong, refreshed])
        async with SqlProbe(connections) as probe:
            target = probe.parse({"conn_id": "db", "sql": "SELECT 1"}, namespace="default")
            [verdict] = await probe.poke([Poked(target)])
        assert isinstance(verdict, expected), verdict
        assert connections.refreshes == 1
        if isinstance(verdict, Failure):
            assert (verdict.reason, verdict.silenceable) == ("access_denied", True)
            assert "wrong-pw" not in verdict.message


@pytest.mark.parametrize("cell", ["<pl4nted-password>", "cGw0bnRlZC1wYXNzd29yZA==", "<pl4nted-parameter>"])
def test_the_password_and_secret_parameters_are_masked_in_rows(cell: str) -> None:
    connection = Connection("db", "postgres", "db.example", login="u", password="pl4nted-password")
    selected = SelectedRows([{"seen": cell, "n": 1}], 40, True)
    parameters = {"api_token": "pl4nted-parameter", "state": "seen"}
    assert masked(selected, connection, parameters).rows == [
        {"seen": "<***>" if "<" in cell else "***", "n": 1}
    ]
    assert masked(selected, Connection("db", "postgres", "db.example"), {}) is selected


async def test_lost_connections_end_no_wait(postgres: Postgres, poke: SqlPoker) -> None:
    connection = postgres.connection("postgres")
    assert isinstance(await poke(connection, sql="SELECT 1"), Success)
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waitd'")
    verdicts = [await poke(connection, sql="SELECT 1") for _ in range(5)]
    assert not any(isinstance(verdict, Failure) for verdict in verdicts), verdicts
    assert isinstance(verdicts[-1], Success)


@pytest.mark.parametrize("conn_type", ["postgres", "mysql"])
async def test_an_unavailable_or_forbidden_host_ends_no_wait(conn_type: str, poke: SqlPoker) -> None:
    closed = Connection("db", conn_type, host="127.0.0.1", port=1, schema="jobs", login="u", password="p")
    verdict = await poke(closed, sql="SELECT 1")
    assert isinstance(verdict, Unreachable), verdict
    assert verdict.reason in {"connection_refused", "database_unavailable"}
    metadata = Connection("db", conn_type, host="169.254.169.254", schema="jobs", login="u")
    assert (await poke(metadata, sql="SELECT 1")).reason == "egress_refused"


async def test_the_operators_egress_rules_apply_to_databases() -> None:
    connection = Connection("db", "postgres", host="db.example.org", schema="jobs")
    egress = EgressGuard(EgressPolicy.from_settings((), ("*.example.org",), private=True))
    async with SqlProbe(ScriptedConnections([connection]), egress=egress) as probe:
        [verdict] = await probe.poke(
            [Poked(probe.parse({"conn_id": "db", "sql": "SELECT 1"}, namespace="n"))]
        )
    assert (type(verdict), verdict.reason) == (Unreachable, "egress_refused")


REFUSED_EXTRAS: list[tuple[str, dict[str, Any]]] = [
    ("postgres", {"sslrootcert": "/ca.pem"}),
    ("postgres", {"sslmode": "prefer", "sslcert": "/cert.pem"}),
    ("postgres", {"sslmode": "require", "sslrootcert": "system"}),
    ("postgres", {"sslmode": "verify-full", "sslcrl": "/crl.pem"}),
    ("postgres", {"sslmode": "verify-full", "verify": "/ca.pem"}),
    ("mysql", {"ssl": {"capath": "/certs"}}),
    ("mysql", {"ssl_cipher": "AES128-SHA"}),
    ("mariadb", {"cert": "/cert.pem"}),
    ("mysql", {"unix_socket": "/run/mysqld.sock"}),
]


@pytest.mark.parametrize(
    "connection",
    [
        Connection("db", "sqlite", host="relative.db"),
        Connection("db", "sqlite", host=":memory:"),
        Connection("db", "sqlite", host="/tmp/../etc/x"),
        Connection("db", "http", host="127.0.0.1"),
        Connection("db", "postgres", host="a,b"),
        Connection("db", "postgres", host="h", extra={"sslmode": "maybe"}),
        Connection("db", "mysql", host="h", extra={"ssl": "yes"}),
        *(Connection("db", conn_type, host="h", extra=extra) for conn_type, extra in REFUSED_EXTRAS),
    ],
)
async def test_an_unusable_connection_is_connection_invalid(connection: Connection, poke: SqlPoker) -> None:
    verdict = await poke(connection, sql="SELECT 1")
    assert (type(verdict), verdict.reason) == (Unreachable, "connection_invalid")


async def test_a_missing_file_is_not_created(tmp_path: Path, poke: SqlPoker) -> None:
    path = tmp_path / "none.db"
    verdict = await poke(Connection("db", "sqlite", host=str(path)), sql="SELECT 1")
    assert isinstance(verdict, Unreachable), verdict
    assert not path.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownConnection("db"), "unknown_connection"),
        (ConnectionUnavailable("x"), "credentials_unavailable"),
    ],
)
async def test_an_unavailable_connection_ends_no_wait(error: Exception, reason: str, poke: SqlPoker) -> None:
    verdict = await poke(error, sql="SELECT 1")
    assert (type(verdict), verdict.reason) == (Unreachable, reason)


@pytest.fixture(scope="module")
def postgres_with_tls() -> Iterator[PostgresWithTls]:
    require_apt_package("postgresql", has_debian_postgres)
    with running_server(PostgresWithTls) as server:
        assert isinstance(server, PostgresWithTls)
        yield server


#: Host, PostgreSQL's mode, MySQL's mode, the trusted authority, and whether the poke succeeds.
TLS = [
    ("127.0.0.1", "require", "REQUIRED", None, True),
    ("127.0.0.1", "prefer", "PREFERRED", None, True),
    ("127.0.0.1", "verify-ca", "VERIFY_CA", "its own", True),
    ("localhost", "verify-full", "VERIFY_IDENTITY", "its own", True),
    ("127.0.0.1", "verify-full", "VERIFY_IDENTITY", "its own", False),  # the certificate is for localhost
    ("localhost", "verify-ca", "VERIFY_CA", "another", False),
    ("localhost", "verify-full", "VERIFY_IDENTITY", None, False),  # the system's authorities did not issue it
]


@pytest.mark.parametrize(("host", "postgres_mode", "mysql_mode", "trusted", "succeeds"), TLS)
@pytest.mark.parametrize("conn_type", ["postgres", "mysql"])
async def test_tls_is_used_and_verified(
    *, conn_type: str, host: str, postgres_mode: str, mysql_mode: str, trusted: str | None, succeeds: bool,
    request: pytest.FixtureRequest, tmp_path: Path, poke: SqlPoker,
) -> None:  # fmt: skip
    server: Postgres | MariaDb = request.getfixturevalue(
        "postgres_with_tls" if conn_type == "postgres" else "mariadb"
    )
    authority = server.authority
    if trusted == "another":
        authority = tmp_path / "other.crt"
        trustme.CA().cert_pem.write_to_path(authority)
    file = None if trusted is None else str(authority)
    extra: dict[str, Any] = {"sslmode": postgres_mode, "sslrootcert": file}
    statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    if conn_type == "mysql":
        extra = {"ssl_mode": mysql_mode, "ssl": {"ca": file} if file else None}
        statement = "SELECT variable_value <> '' AS tls FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
    verdict = await poke(server.connection(conn_type, host=host, extra=extra), sql=statement)
    assert isinstance(verdict, Success if succeeds else Unreachable), verdict
    if isinstance(verdict, Unreachable):
        assert verdict.reason == ("tls" if conn_type == "postgres" else "database_unavailable"), verdict


@pytest.mark.parametrize(
    ("host", "own", "succeeds"),
    [
        ("127.0.0.1", {"ssl_verify_cert": True}, True),
        ("127.0.0.1", {"ssl_verify_identity": "true"}, False),  # the certificate is for localhost
        ("localhost", {"ssl_verify_identity": "true"}, True),
        ("127.0.0.1", {}, True),
    ],
)
async def test_the_extras_of_the_other_mysql_client_are_read(
    *, host: str, own: dict[str, Any], succeeds: bool, request: pytest.FixtureRequest, poke: SqlPoker
) -> None:
    server: MariaDb = request.getfixturevalue("mariadb")
    statement = "SELECT variable_value <> '' AS tls FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
    connection = server.connection("mysql", host=host, extra={"ssl_ca": str(server.authority), **own})
    verdict = await poke(connection, {"sql": statement, "success_when": "rows[0].tls == 1"})
    assert isinstance(verdict, Success if succeeds else Unreachable), verdict


async def test_postgresql_trusts_the_system_if_it_is_told_so(
    postgres_with_tls: PostgresWithTls, monkeypatch: pytest.MonkeyPatch, poke: SqlPoker
) -> None:
    extra = {"sslrootcert": "system", "ssl_min_protocol_version": "TLSv1.3"}
    connection = postgres_with_tls.connection("postgres", host="localhost", extra=extra)
    statement = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    done = {"sql": statement, "success_when": "rows[0].version == 'TLSv1.3'"}
    assert (await poke(connection, done)).reason == "tls"
    monkeypatch.setenv("SSL_CERT_FILE", str(postgres_with_tls.authority))
    assert isinstance(await poke(connection, done), Success)


@pytest.mark.parametrize(
    ("mode", "minimum", "expected"),
    [
        ("prefer", "1.2", "TLS"),
        ("prefer", "1.3", "plain"),
        ("require", "1.2", "TLS"),
        ("require", "1.3", "tls"),
    ],
)
async def test_the_minimum_version_of_the_settings_holds_for_postgresql(
    *, mode: str, minimum: MinimumVersion, expected: str, postgres_with_tls: PostgresWithTls
) -> None:
    postgres_with_tls.sql("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.2'")
    postgres_with_tls.sql("SELECT pg_reload_conf()")
    await until(
        lambda: postgres_with_tls.sql("SHOW ssl_max_protocol_version") == "TLSv1.2", what="the reload"
    )
    connection = postgres_with_tls.connection("postgres", host="localhost", extra={"sslmode": mode})
    statement = (
        "SELECT CASE WHEN ssl THEN 'TLS' ELSE 'plain' END AS it FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    egress = EgressGuard(tls=TlsContexts(minimum_version=minimum))
    try:
        async with SqlProbe(ScriptedConnections([connection]), egress=egress) as probe:
            target = probe.parse({"conn_id": "db", "sql": statement, "message": "rows[0].it"}, namespace="n")
            [verdict] = await probe.poke([Poked(target)])
    finally:
        postgres_with_tls.sql("ALTER SYSTEM RESET ssl_max_protocol_version")
        postgres_with_tls.sql("SELECT pg_reload_conf()")
    assert (verdict.message if isinstance(verdict, Success) else verdict.reason) == expected


def mysql_greeting(*, tls: bool) -> bytes:
    """The first packet of a MySQL server."""
    capabilities = (CLIENT.CAPABILITIES | CLIENT.SSL) if tls else CLIENT.CAPABILITIES & ~CLIENT.SSL
    body = b"\x0a8.0.0\0" + bytes(4) + b"saltsalt\0" + struct.pack("<H", capabilities & 0xFFFF)
    body += struct.pack("<BHHB", 33, 2, capabilities >> 16, 21) + bytes(10) + b"saltsaltsalt\0"
    return len(body).to_bytes(3, "little") + b"\0" + body


@pytest.mark.parametrize(
    ("mode", "tls", "says"),
    [
        (None, False, ["plain"]),
        ("PREFERRED", False, ["plain"]),
        ("REQUIRED", False, ["nothing"]),
        ("VERIFY_CA", False, ["nothing"]),
        (None, True, ["TLS", "plain"]),
        ("PREFERRED", True, ["TLS", "plain"]),
        ("REQUIRED", True, ["TLS"]),
        ("DISABLED", True, ["plain"]),
    ],
)
@pytest.mark.parametrize("instead_of_tls", [b"no TLS, and no MySQL", b"", None])
async def test_mysql_is_asked_for_tls_first(
    *, mode: str | None, tls: bool, says: list[str], instead_of_tls: bytes | None, poke: SqlPoker
) -> None:
    """The server announces TLS, and then does not speak it, closes or resets; or announces none."""
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(mysql_greeting(tls=tls))
        head = await reader.read(4096)
        flags = int.from_bytes(head[4:8], "little")
        heard.append("nothing" if not head else "TLS" if flags & CLIENT.SSL else "plain")
        if heard[-1] == "TLS" and instead_of_tls is None:
            reset(writer)
        writer.write(instead_of_tls or b"" if heard[-1] == "TLS" else b"")
        writer.close()

    async with stream_server(serve) as port:
        extra = {"ssl_mode": mode} if mode else {}
        connection = Connection("db", "mysql", "127.0.0.1", port, login="u", password="p", extra=extra)
        verdict = await poke(connection, sql="SELECT 1")
        await until(lambda: len(heard) >= len(says), what="all that the server hears")
    assert (type(verdict), verdict.reason) == (Unreachable, "database_unavailable")
    assert heard == says


@database_servers
async def test_a_server_that_hangs_delays_no_end(database: Database, request: pytest.FixtureRequest) -> None:
    """Neither a running poke nor an idle connection is waited for."""
    server: Postgres | MariaDb = request.getfixturevalue(
        "postgres" if database.name == "postgres" else "mariadb"
    )
    async with SqlProbe(ScriptedConnections([database.connection])) as probe:
        target = probe.parse({"conn_id": "db", "sql": "SELECT 1"}, namespace="default")
        first = await asyncio.gather(*(probe.poke([Poked(target)]) for _ in range(3)))
        assert all(isinstance(verdict, Success) for [verdict] in first)
        with server.paused():
            hanging = [asyncio.create_task(probe.poke([Poked(target)])) for _ in range(2)]
            assert (await asyncio.wait(hanging, timeout=0.3))[1]
            async with asyncio.timeout(60):
                for task in hanging:
                    task.cancel()
                await asyncio.wait(hanging)
                await probe.__aexit__()
