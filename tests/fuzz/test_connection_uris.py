"""Connections in Airflow's formats come back as they were, or are refused without their secrets."""

import contextlib
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from fuzzing import Fuzz, mutated

from waitd.connections.airflow_formats import parse_connection, parse_stored
from waitd.core.connections.auth import build_credentials
from waitd.core.connections.aws import parse_aws_connection
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable
from waitd.probes.sql.endpoints import sql_endpoint

#: It stands in every login, password and extra below, in a form that no edit is likely to hit.
SECRET = "s3cr3tpw"
TYPES = ("http", "https", "postgres", "mysql", "sqlite", "aws", "google-cloud-platform", "wasb")
TEXTS = (
    "",
    "a",
    "a b",
    "a/b:c@d?e#f%20",
    "é\u202e",
    "100%",
    "\\",
    "[::1]",
    "null",
    "{}",
    "\ud800",
    "x" * 300,
)
CORPUS = [
    b"http://user:s3cr3tpw@host:8080/path?auth_type=bearer&token=s3cr3tpw",
    b"postgres://user:s3cr3tpw@[::1]:5432/db?sslmode=require",
    b"aws://AKIA:s3cr3tpw@/?region_name=eu-central-1&__extra__=%7B%22a%22%3A%201%7D",
    b"http://host/?token=half&s3cr3tpw=%5B1%5D&proxies=%7B%22http://u:s3cr3tpw@p%22:1%7D",
    b"my-type://https://user:s3cr3tpw@host/%2F%40",
    b'{"conn_type": "http", "host": "h", "login": "s3cr3tpw", "port": 80, "extra": {"token": "s3cr3tpw"}}',
    b'{"conn_type": "sqlite", "host": "/tmp/db", "extra": "{\\"secret\\": \\"s3cr3tpw\\"}"}',
]
USES: tuple[Callable[[Connection], object], ...] = (
    Connection.base_url,
    Connection.verifies_tls,
    build_credentials,
    parse_aws_connection,
    sql_endpoint,
)


def some_text(random: Random) -> str:
    return random.choice(TEXTS) + random.choice(("", SECRET))


def some_fields(random: Random) -> dict[str, Any]:
    """Returns the fields of a connection as Airflow stores them."""
    return {
        "conn_type": random.choice(TYPES),
        "host": random.choice(("h", "a.example", "::1", "10.0.0.1", "a-b_c")),
        "login": some_text(random),
        "password": some_text(random),
        "port": random.choice((None, 1, 443, 65535)),
        "schema": random.choice(("", "db", "a b/c")),
        "extra": {some_text(random): some_text(random) for _ in range(random.randrange(3))},
    }


def uri_of(fields: Mapping[str, Any]) -> str:
    """Returns what Airflow's `Connection.get_uri` returns."""
    uri = f"{fields['conn_type']}://"
    if fields["login"] or fields["password"]:
        uri += f"{quote(fields['login'], '')}:{quote(fields['password'], '')}@"
    uri += quote(fields["host"], "") + (f":{fields['port']}" if fields["port"] else "")
    uri += f"/{quote(fields['schema'], '')}"
    extra = fields["extra"]
    plain = all(extra) and not any(value.startswith(("{", "[")) for value in extra.values())
    query = urlencode(extra if plain else {"__extra__": json.dumps(extra)})
    return f"{uri}?{query}" if extra else uri


def of(connection: Connection) -> dict[str, Any]:
    return {name: getattr(connection, name) or None for name in ("host", "login", "password", "port", "schema", "extra")}  # fmt: skip


def test_a_connection_comes_back_as_it_was(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        fields = some_fields(random)
        expected = {name: fields[name] or None for name in of(Connection("c"))}
        formats = [json.dumps(fields), json.dumps(fields | {"extra": json.dumps(fields["extra"])})]
        if "\ud800" not in json.dumps(fields, ensure_ascii=False):
            formats.append(uri_of(fields))
        for text in formats:
            assert of(parse_connection("c", text)) == expected, text
        assert of(parse_stored("c", fields, "it")) == expected


def test_what_is_refused_quotes_no_secret(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        data = random.choice(CORPUS)
        for _ in range(random.randrange(4)):
            data = mutated(random, data, CORPUS)
        text = data.decode("utf-8", random.choice(("surrogateescape", "replace")))
        try:
            connection = parse_connection("c", text)
        except ValueError as error:
            known = f"{error} {error.__context__}"  # a traceback has both
            assert SECRET not in known, text
            with contextlib.suppress(ConnectionUnavailable):
                parse_stored("c", text, "it")
            continue
        if any(SECRET in (part or "") for part in (connection.host, connection.schema, connection.conn_type)):
            continue  # what an edit moved there is no secret any more
        assert SECRET not in repr(connection), text
        for use in USES:
            try:
                use(connection)
            except ValueError as error:
                assert SECRET not in str(error), (use, text)  # noqa: PT017 - some are accepted


def test_any_table_of_fields_is_read_or_refused(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        fields: dict[str, Any] = some_fields(random)
        for _ in range(random.randrange(1, 4)):
            name = random.choice((*fields, "unknown"))
            fields[name] = random.choice((None, 1, 10**30, -1, 1.5, float("nan"), True, [], {}, [SECRET], {"a": {"b": SECRET}}, "1" * 5000, "[" * 5000, SECRET, b"bytes"))  # fmt: skip
        try:
            parse_stored("c", fields, "it")
        except ConnectionUnavailable as error:
            assert SECRET not in str(error), fields  # noqa: PT017 - some tables are accepted
