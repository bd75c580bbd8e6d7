"""Which proxy a request goes through, compared with `requests` and with Go's rules."""

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product

import pytest
from requests.utils import select_proxy, should_bypass_proxies

from waitd.core.connections.connection import parse_origin
from waitd.core.connections.proxies import (
    DEFAULT_PROXIES,
    Proxies,
    choose_proxy,
    parse_proxies,
    proxy_login,
    proxy_name,
    proxy_secrets,
)

PROXY = "http://proxy.example:3128"


def choose(url: str, own: Proxies = DEFAULT_PROXIES, environment: Proxies = DEFAULT_PROXIES) -> str | None:
    return choose_proxy(parse_origin(url), own, environment)


@pytest.mark.parametrize(
    ("own", "url"),
    [
        (own, url)
        for own in (
            {"https": "http://a:1", "http": "http://b:2"},
            {"all": "http://a:1", "https": "http://b:2"},
            {"https://one.example": "http://a:1", "https": "http://b:2", "all://two.example": "http://c:3"},
            {"all": "http://a:1", "all://one.example": "http://b:2"},
            {"http": "http://a:1"},
        )
        for url in ("https://one.example", "http://one.example", "https://two.example:8443", "http://two.example")
    ],
)  # fmt: skip
def test_a_connections_proxies_are_chosen_as_requests_does(own: dict[str, str], url: str) -> None:
    assert choose(url, parse_proxies(own)) == select_proxy(url, own)


def test_a_connections_proxies_precede_the_environments() -> None:
    own, environment = parse_proxies({"https": "a:1"}), parse_proxies({"all": PROXY, "no": "x.example"})
    assert choose("https://x.example", own, environment) == "http://a:1", "NO_PROXY is not for it"
    assert choose("http://y.example", own, environment) == PROXY
    assert choose("http://x.example", own, environment) is None


def test_the_environment_can_be_ignored_and_excepted() -> None:
    environment = parse_proxies({"all": PROXY})
    assert choose("http://x.example", Proxies(trust_env=False), environment) is None
    assert choose("http://x.example", parse_proxies({"no_proxy": ".example"}), environment) is None
    own = parse_proxies({"all": "a:1", "no_proxy": "10.0.0.0/8, x.example"})
    assert [choose(f"http://{host}", own) for host in ("10.1.2.3", "x.example", "z")] == [
        None,
        None,
        "http://a:1",
    ]


def go_bypasses(host: str, port: int, no_proxy: str) -> bool:
    """Go's rules: `useProxy` of golang.org/x/net/http/httpproxy, with `NO_PROXY` of http."""
    address = parse_ip(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = [part.strip().lower() for part in no_proxy.split(",") if part.strip()]
    return any(go_matches(entry, host, port) for entry in entries)


def go_matches(entry: str, host: str, port: int) -> bool:
    """Its matchers: `allMatch`, `cidrMatch`, `ipMatch`, `domainMatch`."""
    address = parse_ip(host)
    if entry == "*":
        return True
    with suppress(ValueError):
        if "/" in entry:
            network = ip_network(entry, strict=False)
            return address is not None and address in network
    matched = re.fullmatch(r"(\[.*\]|[^:]*):([0-9]+)", entry)
    name = matched[1] if matched else entry
    if matched and int(matched[2]) != port:
        return False
    own = parse_ip(name.strip("[]"))
    if own is not None:
        return own == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(text)
    return None


HOSTS = (
    "example.com", "sub.example.com", "notexample.com", "other.test", "localhost", "127.0.0.1",
    "10.1.2.3", "192.168.7.7", "[2001:db8::7]", "[::1]",
)  # fmt: skip
ENTRIES = (
    "example.com", ".example.com", "*.example.com", "example.com:8443", "EXAMPLE.COM", "com", "*",
    "10.0.0.0/8", "10.1.2.3", "10.1.2.3:8443", "2001:db8::/32", "[2001:db8::7]", "192.168.0.0/16, sub.example.com",
    "junk/99", "",
)  # fmt: skip


def winner(host: str, entry: str) -> str:
    """Whose result waitd's is, where those of Go and `requests` differ, or it is neither's."""
    local = host in {"localhost", "127.0.0.1", "[::1]"}
    if local or ":" in host or host == "notexample.com" or entry == "*" or re.search(r":8443$", entry):
        return "go"  # loopback, IPv6, whole labels, `*` with IPv6 addresses, ports
    if entry == "*.example.com" and host == "example.com":
        return "curl"  # as `.example.com`, of which `*.` is a spelling
    if entry.startswith("*.example"):
        return "go"
    return "requests"


@pytest.mark.parametrize(("host", "port", "entry"), [*product(HOSTS, (None, 8443), ENTRIES)])
def test_no_proxy(host: str, port: int | None, entry: str) -> None:
    url = f"http://{host}" if port is None else f"http://{host}:{port}"
    ours = choose(url, environment=parse_proxies({"http": PROXY, "no": entry})) is None
    go = go_bypasses(host.strip("[]"), port or 80, entry)
    theirs = bool(should_bypass_proxies(url, no_proxy=entry or None)) if entry else False
    if go == theirs == ours:
        return
    assert ours is {"go": go, "requests": theirs, "curl": True}[winner(host, entry)]


@pytest.mark.parametrize("entry", ["a.example b.example", "a.example,\tb.example", "a.example , b.example,"])
def test_entries_are_separated_by_commas_or_spaces(entry: str) -> None:
    environment = parse_proxies({"http": PROXY, "no": entry})
    assert choose("http://b.example", environment=environment) is None
    assert choose("http://c.example", environment=environment) == PROXY


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("p.example:3128", "http://p.example:3128"),
        ("HTTP://P.example:3128/", "http://p.example:3128"),
        ("https://p.example", "https://p.example"),
        ("u:p%40ss@p.example:1", "http://u:p%40ss@p.example:1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_url_of_a_proxy(url: str, parsed: str) -> None:
    assert parse_proxies({"all": url}).urls == (("all", parsed),)


@pytest.mark.parametrize(
    "url",
    ["socks5://planted:1", "http://u:planted @p:1", "http://", "http://u:plan\u00e9ted@p", 7]
    + [f"http://u:planted{each}@p:1" for each in "#?[]/"],
)
def test_what_is_no_proxy_is_refused_by_name(url: object) -> None:
    with pytest.raises(ValueError, match="https") as refused:
        parse_proxies({"https": url})
    assert "planted" not in str(refused.value)


def test_a_socks_proxy_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="all names a SOCKS proxy, which waitd cannot use") as refused:
        parse_proxies({"all": "socks5h://planted:planted@p:1"})
    assert "planted" not in str(refused.value)


def test_credentials_are_shown_nowhere() -> None:
    proxies = parse_proxies({"all": "http://planted-user:planted%21pw@p.example:3128"})
    assert "planted" not in f"{proxies} {proxies!r}"
    url = choose("http://x.example", proxies) or ""
    assert proxy_name(url) == "http://p.example:3128"
    assert proxy_login(url) == ("planted-user", "planted!pw")
    assert set(proxy_secrets(proxies)) == {"planted!pw", "planted%21pw"}
    assert proxy_login(PROXY) is None
