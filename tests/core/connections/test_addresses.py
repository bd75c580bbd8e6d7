"""Addresses: each notation, each translation, and what is public."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.connections.addresses import (
    FORBIDDEN_NETWORKS,
    is_forbidden,
    is_public,
    parse_address,
    readings,
    translated,
)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("1.2.3.4", "1.2.3.4"), ("1.2.3.4.", "1.2.3.4"), ("16909060", "1.2.3.4"), ("0x01020304", "1.2.3.4"), ("0100401404", "1.2.3.4"),
        ("1.131844", "1.2.3.4"), ("1.2.772", "1.2.3.4"), ("0x7f.1", "127.0.0.1"), ("0", "0.0.0.0"), ("0x", "0.0.0.0"), ("::", "::"),
        ("[::1]", "::1"), ("fe80::1%lo", "fe80::1"), ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ],
)  # fmt: skip
def test_an_address_is_parsed_in_every_notation(host: str, address: str) -> None:
    assert parse_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host",
    ["", ".", "example.org", "1.2.3.4.5", "1.2.3.4.0", "256.1.1.1", "1.2.3.256", "4294967296", "08", "0x1g", "1..2", "a:b", ":::", "1.2.3.4x", "٣"],
)  # fmt: skip
def test_a_name_is_not_an_address(host: str) -> None:
    assert parse_address(host) is None


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::", []), ("::1", []), ("::2", ["0.0.0.2"]), ("::1:0:0", []), ("8.8.8.8", []), ("2606:4700::1111", []),
        ("::1.2.3.4", ["1.2.3.4"]), ("::ffff:1.2.3.4", ["1.2.3.4"]), ("::ffff:0:1.2.3.4", ["1.2.3.4"]), ("64:ff9b::1.2.3.4", ["1.2.3.4"]),
        ("64:ff9b:0:1::1.2.3.4", []), ("64:ff9b:1::1.2.3.4", ["1.2.3.4"]), ("64:ff9b:1:102:3:400::", ["1.2.3.4", "2.3.4.0", "3.4.0.0"]),
        ("64:ff9b:1:1:2:304::", ["1.2.3.4", "2.3.4.0"]), ("64:ff9b:1:0:1:203:400:0", ["1.2.3.4", "4.0.0.0"]), ("64:ff9b:1::", ["0.0.0.0"]),
        ("2002:102:304::", ["1.2.3.4"]), ("2001:0:4136:e378:8000:63bf:3fff:fdd2", ["65.54.227.120", "192.0.2.45"]),
        ("2606:4700::5efe:1.2.3.4", ["1.2.3.4"]), ("2606:4700::200:5efe:1.2.3.4", ["1.2.3.4"]), ("2606:4700::100:5efe:1.2.3.4", []),
        ("2002:102:304::5efe:5.6.7.8", ["1.2.3.4", "5.6.7.8"]), ("fe80::5efe:1.2.3.4", ["1.2.3.4"]),
    ],
)  # fmt: skip
def test_an_ipv6_address_stands_for_each_ipv4_address_inside_it(address: str, inner: list[str]) -> None:
    assert [*translated(ip_address(address))] == [*map(ip_address, inner)]


@given(st.ip_addresses(v=4).filter(lambda address: int(address) > 1 << 24))
def test_every_translation_of_an_address_counts_as_the_address(address: IPv4Address) -> None:
    number = int(address)
    for ipv6 in (
        number,
        (0xFFFF << 32) + number,
        (0xFFFF << 48) + number,
        (0x64FF9B << 96) + number,
        (0x64FF9B0001 << 80) + number,
        (0x2002 << 112) + (number << 80),
        (0x20010000 << 96) + (number ^ 0xFFFFFFFF) + (0x08080808 << 64),
        (0x26064700 << 96) + (0x5EFE << 32) + number,
        (0x26064700 << 96) + (0x02005EFE << 32) + number,
    ):
        translation = IPv6Address(ipv6)
        assert address in readings(translation)
        assert is_public(address) or not is_public(translation)
        assert is_forbidden(translation) or not is_forbidden(address)


@given(st.ip_addresses())
def test_what_python_calls_private_is_not_public(address: IPv4Address | IPv6Address) -> None:
    if is_public(address) and not translated(address):
        assert address.is_global


def test_a_forbidden_address_is_not_public() -> None:
    azure = ip_address("168.63.129.16")  # of a public network of Microsoft
    for network in FORBIDDEN_NETWORKS:
        assert azure in network or not is_public(network.network_address)
