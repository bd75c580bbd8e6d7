"""How requests of a connection are sent: TLS, proxies and redirects."""

from typing import Any

import pytest

from waitd.core.connections.http_options import ClientTls, HttpOptions, parse_client_tls, parse_http_options
from waitd.core.connections.proxies import Proxies


@pytest.mark.parametrize(
    ("extra", "tls"),
    [
        ({}, ClientTls()),
        ({"verify": False}, ClientTls(verify=False)),
        ({"verify": "False"}, ClientTls(verify=False)),
        ({"verify_ssl": "false"}, ClientTls(verify=False)),
        ({"verify": True, "verify_ssl": False}, ClientTls()),
        ({"verify": ""}, ClientTls()),
        ({"verify": "/etc/ca.crt"}, ClientTls("/etc/ca.crt")),
        ({"verify_ssl": "/etc/ca.crt"}, ClientTls("/etc/ca.crt")),
        ({"cert": "/client.pem"}, ClientTls(cert="/client.pem")),
        ({"cert": ["/client.crt", "/client.key"]}, ClientTls(cert="/client.crt", key="/client.key")),
        ({"cert": []}, ClientTls()),
    ],
)
def test_tls(extra: dict[str, Any], tls: ClientTls) -> None:
    assert parse_client_tls(extra) == tls


@pytest.mark.parametrize(
    ("extra", "proxies"),
    [
        ({"proxies": {"HTTPS": "http://p:3128", "http": "socks.example:1"}}, (("http", "http://socks.example:1"), ("https", "http://p:3128"))),
        ({"proxy": "http://u:pw@p:3128"}, (("all", "http://u:pw@p:3128"),)),
        ({"proxies": {"https": ""}}, ()),
    ],
)  # fmt: skip
def test_proxies(extra: dict[str, Any], proxies: Any) -> None:
    assert parse_http_options(extra) == HttpOptions(proxies=Proxies(proxies))


@pytest.mark.parametrize(
    ("extra", "max_redirects"),
    [({}, 5), ({"max_redirects": 0}, 0), ({"max_redirects": "30"}, 30), ({"allow_redirects": False}, None)],
)
def test_redirects(extra: dict[str, Any], max_redirects: int | None) -> None:
    assert parse_http_options(extra).max_redirects == max_redirects


def test_the_timeout_and_the_check_of_the_status() -> None:
    extra = {"timeout": "2.5", "check_response": "False"}
    assert parse_http_options(extra) == HttpOptions(timeout=2.5, check_response=False)
    assert parse_http_options({"timeout": "", "check_response": None}) == HttpOptions()


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        *(
            ({"timeout": value}, "timeout")
            for value in (0, -1, True, "planted", "nan", "inf", [1, 2], 10**400)
        ),
        ({"check_response": "planted"}, "check_response"),
        ({"verify": 0}, "verify"),
        ({"verify_ssl": ["planted"]}, "verify_ssl"),
        ({"cert": ["planted"]}, "cert"),
        ({"cert": {"planted": 1}}, "cert"),
        ({"proxies": ["planted"]}, "proxies"),
        ({"proxies": {"https": 7}}, "proxies"),
        ({"proxy": "http://u:planted@"}, "proxy"),
        ({"allow_redirects": "planted"}, "allow_redirects"),
        ({"max_redirects": 101}, "max_redirects"),
        ({"max_redirects": True}, "max_redirects"),
        ({"trust_env": "planted"}, "trust_env"),
    ],
)
def test_malformed_options_are_refused_by_name(extra: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        parse_http_options(extra)
    assert "planted" not in str(refused.value)
