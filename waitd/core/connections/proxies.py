"""Which forward proxy a request goes through: that of its connection, or that of the environment.

A connection's `proxies` are those of `requests`: URLs by `https`, `https://host`, `all` or
`all://host`, the most specific first, and `no_proxy`. The environment's are `HTTP_PROXY`,
`HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case, too.

An entry of `NO_PROXY` is a name, which also means all names below it, a network (`10.0.0.0/8`), an
address, or `*`; a port may follow. Where clients differ, this is what holds:

- `example.com` does not match `notexample.com` (Go, curl; `requests` matches it by accident).
- `.example.com` and `*.example.com` match `example.com`, too (`requests` and curl the first of
  them; in Go both match only names below it).
- A port is compared with the scheme's own if the URL has none, after addresses, too; networks may
  be of IPv6 (Go).
- `localhost` and loopback addresses never use the environment's proxies (Go): they would be those
  of the proxy's machine.
- `NO_PROXY` does not hold for a connection's own proxies (`requests`); their `no_proxy` does.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from waitd.core.connections.addresses import Address, normalize_host, parse_address
from waitd.core.connections.connection import Origin, parse_origin

#: The keys of what uses no proxy: that of `getproxies`, and that of a connection.
_NO_PROXY = ("no", "no_proxy")
_SCHEMES = ("http", "https", "all")
_SEPARATORS = re.compile(r"[,\s]+")
_NOTE = "The request goes through "
_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})")


# A msgspec struct that keeps its hash: every poke looks up a route by it.
class Proxies(Struct, frozen=True, cache_hash=True):
    """Proxies, and what does not use them. `repr` hides the URLs, which may hold a password.

    Attributes:
        urls: URLs of proxies by the scheme of a request's URL, or `all`, perhaps with `://host`.
        exceptions: the entries of `NO_PROXY`, or of `no_proxy`.
        trust_env: whether the environment's proxies apply where `urls` has none.
    """

    urls: tuple[tuple[str, str], ...] = ()
    exceptions: tuple[str, ...] = ()
    trust_env: bool = True

    def __repr__(self) -> str:
        return f"Proxies({', '.join(key for key, _ in self.urls)})"


DEFAULT_PROXIES = Proxies()


def parse_proxies(values: Mapping[str, Any], *, trust_env: bool = True) -> Proxies:
    """The proxies of a mapping as `requests` takes it, or `urllib.request.getproxies` returns it.

    Raises:
        ValueError: a value is not the URL of a proxy. The message names the scheme in its key, and
            neither the rest of the key nor the value.
    """
    exceptions: list[str] = []
    urls: dict[str, str] = {}
    for name, value in values.items():
        key = str(name).lower()
        scheme = key.partition("://")[0]
        if not value:
            continue
        if not isinstance(value, str):
            which = scheme if scheme in _SCHEMES or key in _NO_PROXY else "an entry"
            raise ValueError(f"{which} must be a string")  # noqa: TRY004 - bad data, not a bad call
        if key in _NO_PROXY:
            exceptions += filter(None, _SEPARATORS.split(value.lower()))
        elif scheme in _SCHEMES:
            urls[key] = _proxy_url(scheme, value)
    return Proxies(tuple(sorted(urls.items())), tuple(exceptions), trust_env)


def _proxy_url(name: str, url: str) -> str:
    """A proxy's URL, checked; it may hold login and password. `host:port` means http."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    if scheme.lower().startswith("socks"):
        raise ValueError(f"{name} names a SOCKS proxy, which waitd cannot use: name an http or https proxy")
    login, at, host = rest.partition("/")[0].rpartition("@")
    try:
        origin = parse_origin(f"{scheme}://{host}")
    except ValueError as error:
        raise ValueError(f"{name} has no usable URL of an http or https proxy: {error}") from None
    if not login.isascii() or not login.isprintable() or set(" \\#?[]") & set(login):
        raise ValueError(f"{name}: login and password must be percent-encoded")
    return f"{origin.scheme}://{login}{at}{str(origin).partition('://')[2]}"


def choose_proxy(origin: Origin, own: Proxies, environment: Proxies) -> str | None:
    """The URL of the proxy for requests to an origin, with its credentials; None if there is none.

    Args:
        origin: where the request goes.
        own: the proxies of its connection.
        environment: those of the environment.
    """
    proxy = _find(origin, own.urls)
    if proxy is not None:
        return None if _excepts(origin, own.exceptions) else proxy
    if not own.trust_env or _is_loopback(origin.host):
        return None
    exceptions = own.exceptions or environment.exceptions
    return None if _excepts(origin, exceptions) else _find(origin, environment.urls)


def _find(origin: Origin, urls: tuple[tuple[str, str], ...]) -> str | None:
    by_key = dict(urls)
    keys = (f"{origin.scheme}://{origin.host}", origin.scheme, f"all://{origin.host}", "all")
    return next((by_key[key] for key in keys if key in by_key), None)


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    if address is None:
        return normalize_host(host) == "localhost"
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def _excepts(origin: Origin, entries: tuple[str, ...]) -> bool:
    address = parse_address(origin.host)
    name = normalize_host(origin.host)
    return any(_matches(entry, name, address, origin.port) for entry in entries)


def _matches(entry: str, name: str, address: Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(entry, address)
    with_port = _PORT.fullmatch(entry)
    if with_port is not None:
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    if address is not None:
        return parse_address(entry) == address
    domain = normalize_host(entry.removeprefix("*").removeprefix("."))
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _in_network(entry: str, address: Address) -> bool:
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def proxy_name(url: str) -> str:
    """How a message names a proxy: by its origin, without credentials."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def note_proxy(error: BaseException, proxy: str | None) -> None:
    """Notes in an error, or a cancellation, that its request goes through the proxy of this URL."""
    if proxy is not None:
        error.add_note(_NOTE + proxy_name(proxy))


def noted_proxy(error: BaseException) -> str:
    """The name of the proxy that `note_proxy` noted in an error, or in its cause; or "".

    The cause of a `TimeoutError` is the cancellation that the time limit began with.
    """
    each: BaseException | None = error
    while each is not None:
        for note in getattr(each, "__notes__", ()):
            if note.startswith(_NOTE):
                return str(note.removeprefix(_NOTE))
        each = each.__cause__
    return ""


def through_proxy(message: str, proxy: str) -> str:
    """A message about a request that a proxy may have failed; `proxy` is its name, or ""."""
    return f"{message} The request goes through {proxy}." if proxy else message


def proxy_login(url: str) -> tuple[str, str] | None:
    """Login and password in the URL of a proxy."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def proxy_secrets(proxies: Proxies) -> Iterator[str]:
    """The passwords in the URLs of proxies, as they are written and decoded."""
    for _, url in proxies.urls:
        login = proxy_login(url)
        if login is not None:
            yield login[1]
            yield urlsplit(url).password or ""
