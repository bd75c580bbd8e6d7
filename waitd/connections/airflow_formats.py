"""The two string formats of an Airflow connection: a URI, and JSON.

Parsing follows Airflow 3.3 (`airflow.models.connection.Connection`: `_parse_from_uri`,
`from_json`), so that a value works in both unchanged. The differences:

- what Airflow accepts but misreads (no scheme, a host that contains userinfo) is an error here;
- `http://http://host` keeps its host, which Airflow loses;
- in a URI's query, objects and arrays are parsed as JSON, as in Airflow's core; everything else
  stays text, as in its task SDK;
- `extra__<conn_type>__name`, the former spelling of extras, is read as `name` for every type.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable

_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_EXTRA_KEY = "__extra__"
_JSON_FIELDS = frozenset(
    {"conn_type", "description", "host", "login", "password", "schema", "port", "extra", "team_name"}
)


def parse_connection(conn_id: str, value: str) -> Connection:
    """The connection that `value`, a URI or JSON, describes.

    Raises:
        ValueError: it cannot be parsed. The message never quotes the value.
    """
    text = value.strip()
    if text.startswith("{"):
        return connection_from_fields(conn_id, _parse_object(text, "it"))
    return _check_host(_from_uri(conn_id, text))


def parse_stored(conn_id: str, value: object, source: str) -> Connection:
    """The connection that a backend stores, as text or as a table of Airflow's fields.

    Raises:
        ConnectionUnavailable: it cannot be parsed. The operator can fix that, so waits go on. The
            message names `source` and never quotes the value.
    """
    try:
        if isinstance(value, str):
            return parse_connection(conn_id, value)
        if isinstance(value, Mapping):
            return connection_from_fields(conn_id, value)
    except ValueError as error:
        raise ConnectionUnavailable(f"{source} cannot be read: {error}") from None
    raise ConnectionUnavailable(f"{source} cannot be read: it is neither a table of fields nor a string")


def _check_host(connection: Connection) -> Connection:
    if "@" in (connection.host or ""):
        raise ValueError("its host contains an @; put login and password into their own fields")
    return connection


def _from_uri(conn_id: str, uri: str) -> Connection:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise ValueError("it is neither JSON nor a URI with a scheme://")
    if not uri.isprintable():
        raise ValueError("it has control characters; percent-encode them")
    if "://" not in rest:
        protocol, parts = "", _parts("//" + rest)
    elif rest.count("://") == 1 and _PROTOCOL.match(rest):
        parts = _parts(rest)
        protocol = parts.scheme
    else:
        raise ValueError(
            "it has a second :// and is not conn_type://protocol://host; percent-encode it elsewhere"
        )
    conn_type = _normalize(scheme.lower())
    host = _hostname(parts)
    return Connection(
        conn_id,
        conn_type=conn_type,
        host=f"{protocol}://{host}" if protocol and host else host,
        port=_port(parts),
        schema=unquote(parts.path[1:]),
        login=_unquote(parts.username),
        password=_unquote(parts.password),
        extra=_extra_from_query(parts.query, conn_type),
    )


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        pass
    raise ValueError("its host is malformed")  # outside the handler, whose error quotes the URI


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        pass
    raise ValueError("its port is not a number in 0..65535")


def _hostname(parts: SplitResult) -> str:
    """The host, percent-decoded.

    One that contains a path keeps its case, which `hostname` would lower.
    """
    host = unquote(parts.hostname or "")
    if "/" not in host:
        return host
    return unquote(parts.netloc.rpartition("@")[2].partition(":")[0])


def _unquote(text: str | None) -> str | None:
    return unquote(text) if text else text


def _extra_from_query(query: str, conn_type: str) -> Mapping[str, Any]:
    fields = dict(parse_qsl(query, keep_blank_values=True))
    if _EXTRA_KEY in fields:
        return _extra(fields[_EXTRA_KEY], conn_type)
    return _extra({name: _parse_query_value(text) for name, text in fields.items()}, conn_type)


def _parse_query_value(text: str) -> Any:
    """Parse objects and arrays as JSON; keep other text, e.g. a token of digits or `null`."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def connection_from_fields(conn_id: str, fields: Mapping[str, Any]) -> Connection:
    """The connection with these fields, under Airflow's names.

    Raises:
        ValueError: a field is malformed. The message never quotes a value.
    """
    unknown = fields.keys() - _JSON_FIELDS
    if unknown:
        raise ValueError(
            f"it has {len(unknown)} unknown fields; the known ones are: {', '.join(sorted(_JSON_FIELDS))}"
        )
    conn_type = _normalize(_text(fields, "conn_type") or "")
    connection = Connection(
        conn_id,
        conn_type=conn_type,
        host=_text(fields, "host"),
        port=_json_port(fields.get("port")),
        schema=_text(fields, "schema"),
        login=_text(fields, "login"),
        password=_text(fields, "password"),
        extra=_extra(fields.get("extra") or {}, conn_type),
    )
    return _check_host(connection)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an unquoted numeric login or password
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"its {name} is not a string")


def _json_port(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 100:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise ValueError("its port is not a number in 0..65535")
    return value or None


def _extra(value: Any, conn_type: str) -> Mapping[str, Any]:
    extra = (
        value
        if isinstance(value, dict)
        else _parse_object(value if isinstance(value, str) else "", "its extra")
    )
    if not all(isinstance(name, str) for name in extra):  # in YAML, a name may be a number
        raise ValueError("its extra has a name that is not a string")
    prefix = f"extra__{conn_type}__"
    plain = {name: item for name, item in extra.items() if not name.startswith(prefix)}
    return {
        name.removeprefix(prefix): item for name, item in extra.items() if name.startswith(prefix)
    } | plain


def _parse_object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    raise ValueError(f"{what} is not a JSON object")  # outside the handler, whose error quotes the text


def _normalize(conn_type: str) -> str:
    """As Airflow's `_normalize_conn_type`."""
    return "postgres" if conn_type == "postgresql" else conn_type.replace("-", "_")
