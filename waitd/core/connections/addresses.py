"""Addresses: their notations, the IPv4 addresses inside IPv6 addresses, and what is not public.

Tables of RFCs and IANA's special-purpose registries. Prefixes that an operator chose for a
translator of its own (RFC 6052, RFC 5969) cannot be known here; `egress_deny` can name them.
"""

import re
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Link-local networks, and the metadata addresses at which clouds hand out credentials.
FORBIDDEN_NETWORKS: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # RFC 3927
            "fe80::/10",  # RFC 4291, 2.5.6
            "fd00:ec2::/64",  # AWS over IPv6: metadata (::254), pod identity (::23), DNS, time
            "fd20:ce::254/128",  # Google over IPv6
            "fd00:c1::a9fe:a9fe/128",  # Oracle over IPv6
            "fd00:42::42/128",  # Scaleway over IPv6
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
        ),
    )
)


class Translation(NamedTuple):
    """IPv6 addresses of a network that reach IPv4 addresses.

    Attributes:
        positions: which bytes of the IPv6 address may be an IPv4 address, by their indices.
        inverted: whether the bits of the last of these IPv4 addresses are inverted.
    """

    network: IPv6Network
    positions: tuple[tuple[int, int, int, int], ...]
    inverted: bool = False


_LAST = (12, 13, 14, 15)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
TRANSLATIONS: tuple[Translation, ...] = (
    Translation(IPv6Network("::/96"), (_LAST,)),  # IPv4-compatible: RFC 4291, 2.5.5.1
    Translation(IPv6Network("::ffff:0:0/96"), (_LAST,)),  # IPv4-mapped: RFC 4291, 2.5.5.2
    Translation(IPv6Network("::ffff:0:0:0/96"), (_LAST,)),  # IPv4-translated (SIIT): RFC 2765, 2.1
    Translation(IPv6Network("64:ff9b::/96"), (_LAST,)),  # NAT64: RFC 6052, 2.1
    # NAT64 of local use: RFC 8215. Its prefix may have 48, 56, 64 or 96 bits: RFC 6052, 2.2.
    Translation(_LOCAL_NAT64, ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), _LAST)),
    Translation(IPv6Network("2002::/16"), ((2, 3, 4, 5),)),  # 6to4: RFC 3056, 2
    Translation(IPv6Network("2001::/32"), ((4, 5, 6, 7), _LAST), inverted=True),  # Teredo: RFC 4380, 4
)
#: The interface identifiers of ISATAP (RFC 5214, 6.1), which any prefix may precede.
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")

#: IPv4 networks that are not public (IANA's special-purpose registry, RFC 6890).
_SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # RFC 791
            "10.0.0.0/8",  # RFC 1918
            "100.64.0.0/10",  # RFC 6598
            "127.0.0.0/8",  # RFC 1122
            "169.254.0.0/16",  # RFC 3927
            "172.16.0.0/12",  # RFC 1918
            "192.0.0.0/24",  # RFC 6890
            "192.0.2.0/24",  # RFC 5737
            "192.88.99.0/24",  # RFC 7526
            "192.168.0.0/16",  # RFC 1918
            "198.18.0.0/15",  # RFC 2544
            "198.51.100.0/24",  # RFC 5737
            "203.0.113.0/24",  # RFC 5737
            "224.0.0.0/4",  # RFC 5771
            "240.0.0.0/4",  # RFC 1112
        ),
    )
)
#: IANA assigns public IPv6 addresses from here only (RFC 4291, 2.4). Outside lie, among others,
#: 100::/64 (discard, RFC 6666), 5f00::/16 (SRv6, RFC 9602), fc00::/7 (RFC 4193) and ff00::/8.
_GLOBAL_V6 = IPv6Network("2000::/3")
#: What is not public in it.
_SPECIAL_V6 = (
    IPv6Network("2001::/23"),  # protocols: RFC 2928
    IPv6Network("2001:db8::/32"),  # documentation: RFC 3849
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|0[0-7]*|[1-9][0-9]{0,9}")


def normalize_host(host: str) -> str:
    """A host as a resolver reads it (UTS 46): NFKC, other dots as dots, in lower case."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower().rstrip(".")


def parse_address(host: str) -> Address | None:
    """The address that a host stands for in any notation that some client accepts; None for a name.

    `2130706433`, `0x7f.1`, `0177.0.0.1`, `127.1`, `127.0.0.1.`, `[::ffff:7f00:1]` and
    `fe80::1%eth0` are addresses, with full-width digits, too.
    """
    text = normalize_host(host).removeprefix("[").removesuffix("]").partition("%")[0].rstrip(".")
    if ":" in text:
        try:
            return IPv6Address(text)
        except ValueError:
            return None
    return _inet_aton(text)


def _inet_aton(text: str) -> IPv4Address | None:
    """As the C function `inet_aton` reads it: one to four decimal, octal or hexadecimal numbers.

    The last number fills all remaining bytes.
    """
    parts = text.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    *first, last = [_number(part) for part in parts]
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    value = last
    for index, number in enumerate(first):
        value += number << (8 * (3 - index))
    return IPv4Address(value)


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def translated(address: Address) -> Sequence[IPv4Address]:
    """The IPv4 addresses to which an IPv6 address is translated or tunnelled; empty if to none.

    Where the address may be read in several ways, these are all readings.
    """
    if isinstance(address, IPv4Address) or int(address) <= 1:  # `::` and `::1` are addresses of IPv6
        return ()
    packed = address.packed
    found: list[IPv4Address] = []
    for network, positions, inverted in TRANSLATIONS:
        if address in network:
            texts = [bytes(packed[index] for index in indices) for indices in positions]
            if inverted:
                texts[-1] = bytes(byte ^ 0xFF for byte in texts[-1])
            # After a longer prefix, the bytes at a shorter one's position are zero.
            found += map(IPv4Address, [each for each in texts if each[0]] or texts[-1:])
    if packed[8:12] in _ISATAP:
        found.append(IPv4Address(packed[12:]))
    return found


def readings(address: Address) -> Sequence[Address]:
    """The address and those to which it is translated: what holds for one of them holds for it."""
    return (address, *translated(address))


def is_public(address: Address) -> bool:
    """Whether an address, and each that it is translated to, belongs to the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    inner = translated(address)
    if not all(map(is_public, inner)):
        return False
    if inner and address not in _LOCAL_NAT64 and any(address in each.network for each in TRANSLATIONS):
        return True
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def is_forbidden(address: Address) -> bool:
    """Whether an address is, or is translated to, one of `FORBIDDEN_NETWORKS`."""
    return any(each in network for each in readings(address) for network in FORBIDDEN_NETWORKS)
