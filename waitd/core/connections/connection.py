"""A connection: an address and its credentials, and the rule that the second go only to the first.

Where a `conn_id` is looked up lives in `waitd.connections`; what is decided about hosts and paths lives here. URLs are matched against a
grammar narrower than any parser's, so that every client that reads one later sees the same host.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

DEFAULT_PORTS = {"http": 80, "https": 443}
#: Airflow's own rule (`RE_SANITIZE_CONN_ID`, 250 characters), but ASCII: an id is upper-cased into a variable's name, and letters
#: that are different in lower case (`i` and a dotless one) must not become one there.
_CONN_ID = re.compile(r"[A-Za-z0-9_#!()\-.:/\\]{1,250}")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE)
#: What some parser or other takes for the beginning of an absolute URL.
_LOOKS_ABSOLUTE = re.compile(r"https?:|[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_AUTHORITY = re.compile(
    rf"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>(?:{_LABEL}\.)*{_LABEL}\.?))(?::(?P<port>[0-9]{{0,5}}))?"
)
#: The longest name in the DNS, with its trailing dot.
_MAX_HOST = 254
#: How often a path is decoded in search of dot segments; what is encoded more often than that hides something.
_DECODINGS = 3


def is_conn_id(text: str) -> bool:
    """Whether `text` can name a connection at all."""
    return _CONN_ID.fullmatch(text) is not None


class Origin(NamedTuple):
    """Scheme, host (lower case, no brackets) and port; equal origins may share credentials and connections."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = DEFAULT_PORTS.get(self.scheme) == self.port
        return f"{self.scheme}://{host}" if default else f"{self.scheme}://{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """The origin of an absolute http(s) URL, parsed and never guessed.

    A host with a trailing dot is another host than the one without: a resolver's search list applies to the second only.

    Raises:
        ValueError: it is not one, or it has userinfo, control characters, backslashes, a zone, a host that is not ASCII or a port out of
            range. The message never quotes the URL.
    """
    absolute = _absolute(url)
    return _authority(absolute[1].lower(), absolute[2])[0]


def _absolute(url: str) -> re.Match[str]:
    """Scheme and authority as written."""
    _refuse_treacherous(url, "a URL")
    absolute = _ABSOLUTE.match(url)
    if absolute is None:
        raise ValueError("an absolute http:// or https:// URL is needed")
    return absolute


@lru_cache(maxsize=4096)  # the same few, asked at every poke
def _authority(scheme: str, authority: str) -> tuple[Origin, bool]:
    """The origin, and whether the port is written out."""
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
        raise ValueError("what stands in the brackets is no IPv6 address") from None


def _refuse_treacherous(text: str, what: str) -> None:
    """Characters that one parser strips, another takes for a separator, and a third cannot encode."""
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"control characters, spaces and backslashes are not allowed in {what}")


class _Split(NamedTuple):
    """A URL in its parts; `path` and `query` (with its `?`) are as written, a fragment is gone."""

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
    """What can be said of an endpoint before its connection is known: the origin that it names, or None where it is a path.

    Raises:
        ValueError: no connection would take it.
    """
    _refuse_treacherous(endpoint, "an endpoint")
    if endpoint.startswith("//"):
        raise ValueError("an endpoint starting with // names another host")
    if endpoint.startswith("@"):
        raise ValueError("an endpoint starting with @ looks like another host; write it as /@…")
    if "#" in endpoint:
        raise ValueError("an endpoint has no fragment")
    named = _split(endpoint) if _LOOKS_ABSOLUTE.match(endpoint) else None
    if _climbs(named.path if named else endpoint.partition("?")[0]):
        raise ValueError("an endpoint has no . or .. segments")
    return named.origin if named else None


def _climbs(path: str) -> bool:
    """Whether a path has a dot segment in any reading: encoded, encoded twice, or with parameters as in `/..;/`."""
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


@lru_cache(maxsize=1024)  # few connections, asked at every poke
def _base(url: str) -> _Split:
    split = _split(url)
    if split.query or "#" in url or _climbs(split.path):
        raise ValueError("a connection's URL has no query, no fragment and no . or .. segments")
    return split


def join_url(base: str, endpoint: str) -> str:
    """The URL of `endpoint` at a connection whose base URL is `base`; it begins with `str(origin_of(base))`.

    A path is put below the base's own path; `""` and `?query` mean the base itself. An absolute URL must lie below the base, too.

    Raises:
        ValueError: the result would leave the connection's origin or climb above its path, in whatever disguise; or `base` is no URL,
            or has a query, a fragment or dot segments.
    """
    root = _base(base)
    named = check_endpoint(endpoint)
    below = root.path.rstrip("/") + "/"
    if named is not None:
        target = _split(endpoint)
        if named != root.origin:
            raise ValueError(f"the endpoint leaves the connection's origin {root.origin}")
        if not f"{target.path}/".startswith(below):
            raise ValueError("the endpoint leaves the connection's path")
        return str(target)
    if not endpoint or endpoint.startswith("?"):
        return f"{root.origin}{root.path or ('/' if endpoint else '')}{endpoint}"
    return f"{root.origin}{below}{endpoint.removeprefix('/')}"


def encode_segment(text: str) -> str:
    """One path segment, percent-encoded so that it stays one: `a/b` becomes `a%2Fb`.

    Raises:
        ValueError: it is empty or a dot segment, which no encoding protects.
    """
    if text in {"", ".", ".."}:
        raise ValueError("a path segment is neither empty nor a dot segment")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Connection:
    """What a `conn_id` stands for; Airflow's fields under Airflow's names.

    `repr` and `str` show neither login, password nor extra.
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
        """The http(s) URL below which this connection's endpoints lie, as Airflow's `HttpHook._set_base_url` builds it.

        A host that carries a scheme is taken as it is; else the scheme is `schema`, else http. The port is put in where the host has none.
        It differs from Airflow (provider http 6.3) where Airflow's is no URL (an IPv6 address without brackets, a host with a path and a
        port) and in one more case: conn_type `https` means https, where Airflow would send the credentials in the clear.

        Raises:
            ValueError: host, port and schema make no URL that endpoints can be joined to.
        """
        return _base_url(self.host or "", self.port, self.schema, self.conn_type)

    def verifies_tls(self) -> bool:
        """Whether certificates are checked: unless extra's `verify` (or `verify_ssl`, as Airflow also calls it) says false."""
        wish = self.extra.get("verify", self.extra.get("verify_ssl"))
        return str(wish).lower() != "false"


@lru_cache(maxsize=1024)
def _base_url(host: str, port: int | None, schema: str | None, conn_type: str) -> str:
    if not host:
        raise ValueError("the connection has no host")
    if "://" not in host:
        scheme = schema or ("https" if conn_type == "https" else "http")
        if scheme.lower() not in DEFAULT_PORTS:
            raise ValueError(
                "the connection's schema is not http or https; a path belongs into the host or the endpoint"
            )
        bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
        host = f"{scheme}://[{host}]" if bare_ipv6 else f"{scheme}://{host}"
    base = _base(host)
    if port and not base.has_port:
        base = _base(str(base._replace(origin=base.origin._replace(port=port))))
    return str(base)
