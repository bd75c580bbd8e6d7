"""Turns connections of the types `postgres`, `mysql` and `sqlite` into databases to connect to.

- `postgres`: host, port and schema are the server and the database (default: the login's name). The
  extra `sslmode` is libpq's, `disable` to `verify-full`, with `sslrootcert` (a path, or `system`),
  `sslcert`, `sslkey`, `ssl_min_protocol_version`.
- `mysql`: host, port and schema are the server and the database. The extra `ssl` is an object with
  `ca`, `cert`, `key`; `ssl_mode` is `DISABLED`, `PREFERRED` (the default), `REQUIRED`, `VERIFY_CA`
  or `VERIFY_IDENTITY`. Or, as for the client `mysql-connector-python`: `ssl_ca`, `ssl_cert`,
  `ssl_key`, `ssl_verify_cert`, `ssl_verify_identity`, `ssl_disabled`.
- `sqlite`: host and schema are the absolute path of a file, which is opened read-only.
"""

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from anyio import to_thread

from waitd.core.connections.connection import Connection, Origin, parse_origin
from waitd.core.connections.extras import check_extras
from waitd.outgoing import TlsContexts, TlsFiles

#: PostgreSQL's types that asyncpg decodes slowly, 3 to 10 µs a value, and their numbers: they
#: arrive as text instead, which is how conditions see them.
_TEXT_TYPES = {"cidr": 650, "inet": 869, "bit": 1560, "varbit": 1562, "uuid": 2950}

#: The fields of the object `ssl` of a MySQL connection.
_FILES = frozenset({"ca", "cert", "key"})


class SqlEndpoint(NamedTuple):
    """A database server.

    Attributes:
        connect: logs in, over TLS as the daemon's contexts say, and returns the driver's
            connection.
    """

    dialect: str
    origin: str
    host: str
    port: int
    connect: Callable[[TlsContexts], Awaitable[Any]]


class SqliteFile(NamedTuple):
    """A database in a file."""

    path: str

    @property
    def origin(self) -> str:
        """The file as a URL."""
        return f"sqlite://{self.path}"


def sql_endpoint(connection: Connection) -> SqlEndpoint | SqliteFile:
    """Returns the database of a connection.

    Raises:
        ValueError: the connection cannot be used; the message quotes no secret.
    """
    parse = _PARSERS.get(connection.conn_type)
    if parse is None:
        raise ValueError(f"its type must be one of {', '.join(sorted(_PARSERS))}")
    return parse(connection)


def _server(connection: Connection, dialect: str, default_port: int) -> Origin:
    host = connection.host or ""
    if set("/?#") & set(host):
        raise ValueError("its host must be a host name or an IP address only")
    bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
    url = f"http://{f'[{host}]' if bare_ipv6 else host}:{connection.port or default_port}"
    return parse_origin(url)._replace(scheme=dialect)


def _postgres(connection: Connection) -> SqlEndpoint:
    server = _server(connection, "postgresql", 5432)
    check_extras(connection)
    database = connection.schema or connection.login or "postgres"
    by_system = connection.extra.get("sslrootcert") == "system"
    mode = connection.extra.get("sslmode", "verify-full" if by_system else "prefer")
    if mode not in {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}:
        raise ValueError("its sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full")
    if by_system and mode != "verify-full":
        raise ValueError("its sslrootcert system needs the sslmode verify-full")
    if mode in {"allow", "prefer"}:
        for name in ("sslrootcert", "sslcert", "sslkey", "ssl_min_protocol_version"):
            if connection.extra.get(name):
                raise ValueError(f"its {name} needs an sslmode: require, verify-ca or verify-full")
    connect = partial(_connect_postgres, connection, server, database, mode)
    return SqlEndpoint("postgresql", f"{server}/{database}", server.host, server.port, connect)


async def _connect_postgres(
    connection: Connection, server: Origin, database: str, mode: str, contexts: TlsContexts
) -> Any:
    import asyncpg  # noqa: PLC0415 - imported when the first query needs it

    extra = connection.extra
    tls: ssl.SSLContext | str | bool = False
    dsn = None
    if mode in {"allow", "prefer"}:
        tls = mode
        if contexts.minimum_version == ssl.TLSVersion.TLSv1_3:  # no argument of `connect` sets it
            dsn = "postgresql://?ssl_min_protocol_version=TLSv1.3"
    elif mode != "disable":
        ca = extra.get("sslrootcert")
        verified = mode != "require" or bool(ca)
        files = (None if ca == "system" else ca, extra.get("sslcert"), extra.get("sslkey"))
        tls = await _context(contexts, *files, verified=verified, check_hostname=mode == "verify-full")
        if extra.get("ssl_min_protocol_version") == "TLSv1.3":  # 1.2 is the least in any case
            tls.minimum_version = ssl.TLSVersion.TLSv1_3
    asyncpg_connection = await asyncpg.connect(
        dsn,
        host=server.host,
        port=server.port,
        user=connection.login or None,
        password=connection.password or None,
        database=database,
        ssl=tls,
        timeout=None,  # the caller sets the time limit
        statement_cache_size=0,  # every FETCH has the same text but rows of another shape
        server_settings={"application_name": "waitd"},
    )
    # `set_type_codec` would ask the server for each of these numbers, which never change.
    codecs = asyncpg_connection._protocol.get_settings()  # noqa: SLF001 - see the line above
    for name, oid in _TEXT_TYPES.items():
        codecs.add_python_codec(oid, name, "pg_catalog", [], "scalar", str, str, "text")
    return asyncpg_connection


def _mysql(connection: Connection) -> SqlEndpoint:
    server = _server(connection, "mysql", 3306)
    extra = connection.extra
    check_extras(connection)
    files = _tls_files(extra)
    mode = str(extra.get("ssl_mode") or _mysql_mode(extra, files))
    if mode.upper() not in {"DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"}:
        raise ValueError(
            "its ssl_mode must be one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"
        )
    connect = partial(_connect_mysql, connection, server, mode.upper(), files)
    return SqlEndpoint("mysql", f"{server}/{connection.schema or ''}", server.host, server.port, connect)


async def _connect_mysql(
    connection: Connection, server: Origin, mode: str, files: Mapping[str, Any], contexts: TlsContexts
) -> Any:
    from waitd.probes.sql import mysql  # noqa: PLC0415 - imported when the first query needs it

    tls = None
    if mode != "DISABLED":
        tls = await _context(
            contexts,
            *(files.get(name) for name in ("ca", "cert", "key")),
            verified=mode.startswith("VERIFY"),
            check_hostname=mode == "VERIFY_IDENTITY",
        )
    return await mysql.connect(
        host=server.host,
        port=server.port,
        user=connection.login or "",
        password=connection.password or "",
        db=connection.schema or None,
        charset="utf8mb4",
        ssl=tls,
        tls_required=mode not in {"DISABLED", "PREFERRED"},
        program_name="waitd",
    )


def _sqlite(connection: Connection) -> SqliteFile:
    path = connection.host or ""
    if connection.schema:
        path = f"{path}/{connection.schema}"
    if not path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts:
        raise ValueError("its host and schema must make an absolute path without ..")
    return SqliteFile(path)


async def _context(
    contexts: TlsContexts, ca: Any, cert: Any, key: Any, *, verified: bool, check_hostname: bool
) -> ssl.SSLContext:
    if not all(isinstance(each, str | None) for each in (ca, cert, key)):
        raise ValueError("its TLS files must be paths")
    build = partial(
        contexts.for_library, TlsFiles(ca, cert, key), verify=verified, check_hostname=check_hostname
    )
    try:
        return await to_thread.run_sync(build)
    except (OSError, ValueError):
        raise ValueError("its TLS files cannot be read") from None


def _mysql_mode(extra: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """The `ssl_mode` of a connection without one."""
    if _is_true(extra, "ssl_disabled"):
        return "DISABLED"
    if _is_true(extra, "ssl_verify_identity") or (extra.get("ssl") and files.get("ca")):
        return "VERIFY_IDENTITY"
    if _is_true(extra, "ssl_verify_cert") or files.get("ca"):
        return "VERIFY_CA"
    return "REQUIRED" if files else "PREFERRED"


def _is_true(extra: Mapping[str, Any], name: str) -> bool:
    return str(extra.get(name)).lower() in {"true", "1"}


def _tls_files(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The files of a MySQL connection.

    They are in the object `ssl` of its extra, or in the object's JSON text, as Airflow's hook
    allows, or in fields of their own.
    """
    value = extra.get("ssl")
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if value is None or value is False or value == "":
        return {name: extra[f"ssl_{name}"] for name in _FILES if extra.get(f"ssl_{name}")}
    if not isinstance(value, Mapping):
        raise ValueError("its ssl must be an object with ca, cert and key")  # noqa: TRY004 - bad data, not a bad call
    if not value.keys() <= _FILES:
        raise ValueError("its ssl must have no fields but ca, cert and key")
    return value


_PARSERS: Mapping[str, Callable[[Connection], SqlEndpoint | SqliteFile]] = {
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}
