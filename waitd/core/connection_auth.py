"""How a connection's credentials are written into an HTTP request.

`extra["auth_type"]` names the way; without it, `basic` where there is a login or a password, else `none`:

| auth_type | sends                                                                         |
|-----------|-------------------------------------------------------------------------------|
| `none`    | nothing                                                                       |
| `basic`   | `Authorization: Basic …` of login and password                                |
| `bearer`  | `Authorization: Bearer …` of `extra["token"]`, else the password              |
| `header`  | the header named by `extra["header_name"]`, with the password as its value    |

Besides, each entry of the map `extra["headers"]` is sent as a header; and, as Airflow's HttpHook does it, so is each entry of `extra`
itself whose name can only be a header's: `Authorization`, `Accept`, or any name with a hyphen.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping

from waitd.core.connection import Connection

Header = tuple[str, str]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def http_headers(connection: Connection) -> tuple[Header, ...]:
    """The headers that carry a connection's credentials, to be sent to its own origin only.

    Raises:
        ValueError: the connection's extra cannot be read as such; the message quotes no secret.
    """
    extra = connection.extra
    default = "basic" if connection.login or connection.password else "none"
    way = extra.get("auth_type", default)
    if not isinstance(way, str) or way.lower() not in _WAYS:
        raise ValueError(f"auth_type is one of {', '.join(_WAYS)}")
    headers = dict(_named_headers(extra))
    headers.update(_WAYS[way.lower()](connection))
    for name, value in headers.items():
        check_header(name, value)
    return tuple(headers.items())


def check_header(name: str, value: str) -> None:
    """Refuses what would break out of a header line, or cannot be sent at all.

    Raises:
        ValueError: says which; it quotes the name, never the value.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a header name has only letters, digits and !#$%&'*+-.^_`|~")
    if _CONTROL.search(value):
        raise ValueError(f"the value of {name} has control characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name} is no Unicode text") from None


def _named_headers(extra: Mapping[str, object]) -> Iterator[Header]:
    for name, value in extra.items():
        if isinstance(value, str) and ("-" in name or name.lower() in {"authorization", "accept"}):
            yield name, value
    headers = extra.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("the extra's headers are a map of names to strings")
    yield from headers.items()


def _none(_: Connection) -> Iterator[Header]:
    yield from ()


def _basic(connection: Connection) -> Iterator[Header]:
    pair = f"{connection.login or ''}:{connection.password or ''}"
    yield "Authorization", f"Basic {b64encode(pair.encode()).decode()}"


def _bearer(connection: Connection) -> Iterator[Header]:
    token = connection.extra.get("token") or connection.password
    if not isinstance(token, str):
        raise ValueError("auth_type bearer needs a password or the extra's token")  # noqa: TRY004 - bad data, not a bad call
    yield "Authorization", f"Bearer {token}"


def _header(connection: Connection) -> Iterator[Header]:
    name = connection.extra.get("header_name")
    if not isinstance(name, str) or connection.password is None:
        raise ValueError("auth_type header needs the extra's header_name and a password")
    yield name, connection.password


_WAYS: Mapping[str, Callable[[Connection], Iterator[Header]]] = {
    "none": _none,
    "basic": _basic,
    "bearer": _bearer,
    "header": _header,
}
