"""Where a database is and how it is logged in to: Airflow's connections of the types `postgres`, `mysql` and `sqlite`.

| type       | where                        | what                                                                       |
|------------|------------------------------|----------------------------------------------------------------------------|
| `postgres` | host, port, schema           | the server and the database (else: of the login's name)                    |
|            | extra `sslmode`              | as libpq has it: `disable` to `verify-full`; `sslrootcert`, `sslcert`, `sslkey` |
| `mysql`    | host, port, schema           | the server and the database                                                |
|            | extra `ssl`                  | an object with `ca`, `cert`, `key`; or `ssl_mode`: `DISABLED`, `REQUIRED`, `VERIFY_CA`, `VERIFY_IDENTITY` |
| `sqlite`   | host, schema                 | the absolute path of a file, which is opened to be read only               |
"""

import json
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from anyio import to_thread

from waitd.core.connections.connection import Connection, parse_origin
from waitd.probes.sql.read_limit import MAX_READ

_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
#: Functions that reach beyond the database.
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


class SqlEndpoint(NamedTuple):
    """A database. `host` and `port`: None for a file; `connect` logs in, with the driver's own connection as result."""

    dialect: str
    origin: str
    host: str | None
    port: int | None
    connect: Callable[[], Awaitable[Any]]


def sql_endpoint(connection: Connection) -> SqlEndpoint:
    """Where a connection's database is.

    Raises:
        ValueError: it cannot be used; the message quotes no secret.
    """
    make = _PLACES.get(connection.conn_type)
    if make is None:
        raise ValueError(f"its type is none of {', '.join(sorted(_PLACES))}")
    return make(connection)


def _address(connection: Connection, default_port: int) -> tuple[str, int]:
    host = connection.host or ""
    if set("/?#") & set(host):
        raise ValueError("its host is to be a name or an address alone")
    bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
    origin = parse_origin(f"http://{f'[{host}]' if bare_ipv6 else host}:{connection.port or default_port}")
    return origin.host, origin.port


def _postgres(connection: Connection) -> SqlEndpoint:
    host, port = _address(connection, 5432)
    database = connection.schema or connection.login or "postgres"
    mode = connection.extra.get("sslmode", "prefer")
    if mode not in {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}:
        raise ValueError("its sslmode is none that PostgreSQL knows")
    connect = partial(_to_postgres, connection, host, port, database, mode)
    return SqlEndpoint("postgresql", f"postgresql://{_shown(host)}:{port}/{database}", host, port, connect)


async def _to_postgres(connection: Connection, host: str, port: int, database: str, mode: str) -> Any:
    import asyncpg  # noqa: PLC0415 - only where such a database is asked

    extra = connection.extra
    tls: ssl.SSLContext | str | bool = False
    if mode in {"allow", "prefer"}:
        tls = mode
    elif mode != "disable":
        files = (extra.get("sslrootcert"), extra.get("sslcert"), extra.get("sslkey"))
        verified = mode != "require" or bool(files[0])
        tls = await _context(*files, verified=verified, host_too=mode == "verify-full")
    return await asyncpg.connect(
        host=host,
        port=port,
        user=connection.login or None,
        password=connection.password or None,
        database=database,
        ssl=tls,
        timeout=None,  # the caller's patience bounds it
        statement_cache_size=0,  # every FETCH has the same text, and rows of another shape
        server_settings={"application_name": "waitd"},
    )


def _mysql(connection: Connection) -> SqlEndpoint:
    host, port = _address(connection, 3306)
    extra = connection.extra
    files = _object(extra.get("ssl"))
    mode = str(extra.get("ssl_mode") or ("VERIFY_IDENTITY" if files.get("ca") else "REQUIRED" if files else "DISABLED"))  # fmt: skip
    if mode.upper() not in {"DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"}:
        raise ValueError("its ssl_mode is none that MySQL knows")
    connect = partial(_to_mysql, connection, host, port, mode.upper(), files)
    return SqlEndpoint(
        "mysql", f"mysql://{_shown(host)}:{port}/{connection.schema or ''}", host, port, connect
    )


async def _to_mysql(connection: Connection, host: str, port: int, mode: str, files: Mapping[str, Any]) -> Any:
    import aiomysql  # noqa: PLC0415 - only where such a database is asked

    tls = None
    if mode not in {"DISABLED", "PREFERRED"}:
        tls = await _context(
            *(files.get(name) for name in ("ca", "cert", "key")),
            verified=mode.startswith("VERIFY"),
            host_too=mode == "VERIFY_IDENTITY",
        )
    return await aiomysql.connect(
        host=host,
        port=port,
        user=connection.login or "",
        password=connection.password or "",
        db=connection.schema or None,
        charset="utf8mb4",
        ssl=tls,
        program_name="waitd",
    )


def _sqlite(connection: Connection) -> SqlEndpoint:
    path = connection.host or ""
    if connection.schema:
        path = f"{path}/{connection.schema}"
    if not path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts:
        raise ValueError("its file is to be an absolute path")
    return SqlEndpoint("sqlite", f"sqlite://{path}", None, None, partial(_to_sqlite, path))


async def _to_sqlite(path: str) -> Any:
    import aiosqlite  # noqa: PLC0415 - only where such a database is asked

    where = f"file:{quote(path)}?mode=ro"
    connection = aiosqlite.connect(where, uri=True, timeout=0.5, factory=_BoundedFile)
    try:
        await connection
    except sqlite3.Error:
        # Its thread still tells the loop that it ends, and the loop may be gone by then.
        await to_thread.run_sync(connection._thread.join)  # noqa: SLF001 - there is no other way
        raise
    try:
        await connection.execute("PRAGMA query_only = ON")
        await connection.set_authorizer(_authorize)
    except BaseException:
        await connection.close()
        raise
    return connection


class _BoundedFile(sqlite3.Connection):
    """Hands out no larger cell, or row, than this."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_READ)


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:  # fmt: skip
    """What a statement may do: read the file that the connection names. No ATTACH, no PRAGMA, no extension."""
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in _FORBIDDEN_FUNCTIONS else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_TRANSACTION:
        return sqlite3.SQLITE_OK
    # SQLAlchemy asks it of every new database.
    asked = action == sqlite3.SQLITE_PRAGMA and first == "read_uncommitted" and second is None
    return sqlite3.SQLITE_OK if asked else sqlite3.SQLITE_DENY


async def _context(ca: Any, cert: Any, key: Any, *, verified: bool, host_too: bool) -> ssl.SSLContext:
    if not all(isinstance(each, str | None) for each in (ca, cert, key)):
        raise ValueError("its TLS files are to be paths")
    try:
        context = await to_thread.run_sync(_read_context, ca, cert, key)
    except (OSError, ValueError):
        raise ValueError("its TLS files cannot be read") from None
    context.check_hostname = verified and host_too
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    return context


def _read_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert, key)
    return context


def _object(value: Any) -> Mapping[str, Any]:
    """An object in an extra, or the text of one, as Airflow's MySQL connection also has it."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if value is None or value is False or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("its ssl is no object with ca, cert and key")  # noqa: TRY004 - bad data, not a bad call
    return value


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


_PLACES: Mapping[str, Callable[[Connection], SqlEndpoint]] = {
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}
