"""A connection: an address and its credentials, which are sent to no other address.

This module decides about hosts and paths; `waitd.connections` looks up a `conn_id`. URLs are
matched against a grammar that is narrower than that of any URL parser, so that every client that
parses one later finds the same host in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

DEFAULT_PORTS = {"http": 80, "https": 443}
#: Airflow's rule (`RE_SANITIZE_CONN_ID`, 250 characters), limited to ASCII: an id is upper-cased
#: into the name of an environment variable, and two ids must not collide there (`i` and its dotless
#: form).
_CONN_ID = re.compile(r"[A-Za-z0-9_#!()\-.:/\\]{1,250}")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE)
#: What at least one URL parser takes for the start of an absolute URL.
_LOOKS_ABSOLUTE = re.compile(r"https?:|[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_AUTHORITY = re.compile(
    rf"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>(?:{_LABEL}\.)*{_LABEL}\.?))(?::(?P<port>[0-9]{{0,5}}))?"
)
#: The longest DNS name, with its trailing dot, in characters.
_MAX_HOST = 254
#: How often a path is percent-decoded in the search for dot segments; it is refused if it still
#: changes.
_DECODINGS = 3


def is_conn_id(text: str) -> bool:
    """Whether `text` is a valid connection id."""
    return _CONN_ID.fullmatch(text) is not None


class Origin(NamedTuple):
    """Scheme, host (lower case, no brackets) and port (RFC 6454).

    Requests to equal origins may share credentials and TCP connections.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = DEFAULT_PORTS.get(self.scheme) == self.port
        return f"{self.scheme}://{host}" if default else f"{self.scheme}://{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """The origin of an absolute http(s) URL.

    `host.` and `host` are different hosts: a resolver's search list applies to the second only.

    Raises:
        ValueError: the URL is not absolute, or it has userinfo, control characters, backslashes, a
            zone, a host that is not ASCII or a port out of range. The message never quotes the URL.
    """
    absolute = _absolute(url)
    return _authority(absolute[1].lower(), absolute[2])[0]


def _absolute(url: str) -> re.Match[str]:
    """Matches the scheme and the authority as they are written."""
    _check_characters(url, "a URL")
    absolute = _ABSOLUTE.match(url)
    if absolute is None:
        raise ValueError("an absolute http:// or https:// URL is needed")
    return absolute


@lru_cache(maxsize=4096)  # few authorities, parsed at every poke
def _authority(scheme: str, authority: str) -> tuple[Origin, bool]:
    """The origin, and whether the URL has an explicit port."""
    if "@" in authority:
        raise ValueError("credentials do not belong in a URL; name a connection by its conn_id")
    if not authority.isascii():
        raise ValueError("write an internationalised host in its ASCII form, xn--…")
    matched = _AUTHORITY.fullmatch(authority)
    if matched is None or len(matched["name"] or "") > _MAX_HOST:
        raise ValueError(
            "the host is not a name, an IPv4 address or an IPv6 address in brackets, with an optional port"
        )
    host = _ipv6(matched["ipv6"]) if matched["ipv6"] else matched["name"].lower()
    port = int(matched["port"]) if matched["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise ValueError("the port is not in 1..65535")
    return Origin(scheme, host, port), bool(matched["port"])


def _ipv6(text: str) -> str:
    try:
        return IPv6Address(text).compressed
    except ValueError:
        raise ValueError("the text in brackets is not an IPv6 address") from None


def _check_characters(text: str, what: str) -> None:
    """Refuses characters that one parser strips, another splits at, and a third refuses."""
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"control characters, spaces and backslashes are not allowed in {what}")


class _Split(NamedTuple):
    """The parts of a URL.

    `path` and `query` (with its `?`) are as written; the fragment is dropped.
    """

    origin: Origin
    has_port: bool
    path: str
    query: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}{self.query}"


def _split(url: str) -> _Split:
    absolute = _absolute(url)
    path, mark, query = url[absolute.end() :].partition("#")[0].partition("?")
    return _Split(*_authority(absolute[1].lower(), absolute[2]), path, mark + query)


def check_endpoint(endpoint: str) -> Origin | None:
    """Checks an endpoint whose connection is not known yet.

    Returns:
        The origin of an absolute URL; None if the endpoint is a path.

    Raises:
        ValueError: the endpoint is invalid for every connection.
    """
    _check_characters(endpoint, "an endpoint")
    if endpoint.startswith("//"):
        raise ValueError("an endpoint starting with // names another host")
    if endpoint.startswith("@"):
        raise ValueError("an endpoint starting with @ looks like another host; write it as /@…")
    if "#" in endpoint:
        raise ValueError("an endpoint has no fragment")
    absolute = _split(endpoint) if _LOOKS_ABSOLUTE.match(endpoint) else None
    if _has_dot_segment(absolute.path if absolute else endpoint.partition("?")[0]):
        raise ValueError("an endpoint has no . or .. segments")
    return absolute.origin if absolute else None


def _has_dot_segment(path: str) -> bool:
    """Whether a path has a dot segment: plain, encoded (once or twice), or as in `/..;/`."""
    if "." not in path and "%" not in path:
        return False
    for _ in range(_DECODINGS):
        if any(part.partition(";")[0] in {".", ".."} for part in path.replace("\\", "/").split("/")):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


@lru_cache(maxsize=1024)  # few connections, read at every poke
def _base(url: str) -> _Split:
    split = _split(url)
    if split.query or "#" in url or _has_dot_segment(split.path):
        raise ValueError("a connection's URL has no query, no fragment and no . or .. segments")
    return split


def join_url(base: str, endpoint: str) -> str:
    """The URL of `endpoint` at a connection whose base URL is `base`.

    A path is placed below the path of the base; `""` and `?query` mean the base itself. An absolute
    URL must lie below the base. The result always begins with `str(parse_origin(base))`.

    Raises:
        ValueError: the result would leave the connection's origin or its path; or `base` is not a
            URL, or it has a query, a fragment or dot segments.
    """
    root = _base(base)
    origin = check_endpoint(endpoint)
    below = root.path.rstrip("/") + "/"
    if origin is not None:
        target = _split(endpoint)
        if origin != root.origin:
            raise ValueError(f"the endpoint leaves the connection's origin {root.origin}")
        if not f"{target.path}/".startswith(below):
            raise ValueError("the endpoint leaves the connection's path")
        return str(target)
    if not endpoint or endpoint.startswith("?"):
        return f"{root.origin}{root.path or ('/' if endpoint else '')}{endpoint}"
    return f"{root.origin}{below}{endpoint.removeprefix('/')}"


def encode_segment(text: str) -> str:
    """Percent-encodes one path segment: `a/b` becomes `a%2Fb`.

    Raises:
        ValueError: it is empty or a dot segment, which stays one when it is encoded.
    """
    if text in {"", ".", ".."}:
        raise ValueError("a path segment must not be empty or a dot segment")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Connection:
    """An Airflow connection with Airflow's field names.

    `repr` and `str` hide login, password and extra.
    """

    conn_id: str
    conn_type: str = "http"
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def base_url(self) -> str:
        """The http(s) URL below which this connection's endpoints lie.

        It is built as Airflow's `HttpHook._set_base_url` (provider http 6.3) builds it: a host with
        a scheme is kept; else the scheme is `schema`, else http. The port is added if the host has
        none. There are two differences: an IPv6 address without brackets, and a host with a path
        and a port, give a valid URL; and conn_type `https` means https, where Airflow would send
        the credentials unencrypted.

        Raises:
            ValueError: host, port and schema do not make a URL to which endpoints can be joined.
        """
        return _base_url(self.host or "", self.port, self.schema, self.conn_type)

    def verifies_tls(self) -> bool:
        """Whether certificates are verified: if extra `verify` or `verify_ssl` is not false."""
        verify = self.extra.get("verify", self.extra.get("verify_ssl"))
        return str(verify).lower() != "false"


def text_field(fields: Mapping[str, Any], name: str) -> str | None:
    """The text in a field of `extra`; None if the field is missing or empty.

    Raises:
        ValueError: the field is not a string. The message does not quote it.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")  # noqa: TRY004 - bad data, not a bad call
    return value


@lru_cache(maxsize=1024)
def _base_url(host: str, port: int | None, schema: str | None, conn_type: str) -> str:
    if not host:
        raise ValueError("the connection has no host")
    if "://" not in host:
        scheme = schema or ("https" if conn_type == "https" else "http")
        if scheme.lower() not in DEFAULT_PORTS:
            raise ValueError(
                "the connection's schema must be http or https; put a path into the host or the endpoint"
            )
        bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
        host = f"{scheme}://[{host}]" if bare_ipv6 else f"{scheme}://{host}"
    base = _base(host)
    if port and not base.has_port:
        base = _base(str(base._replace(origin=base.origin._replace(port=port))))
    return str(base)
