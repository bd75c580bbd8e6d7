"""Where requests may go: addresses that are never a target, and the operator's own rules for all others.

Two kinds of hosts are told apart. One that a submitter names (`HostSource.BY_SUBMITTER`) is judged by its name and by the address that it
resolves to. One that the operator names, in a connection, in `egress_allow` or in a setting (`HostSource.BY_OPERATOR`), is the operator's
choice: its name is judged, and of its address only whether it is one of those that are never a target.

An entry of `egress_allow` or `egress_deny` is a network (`10.2.0.0/16`), an address, a host name, or `*.` and the end of one; `*` is every
name. The more specific of two entries that match wins, and of equal ones the one that denies.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Link-local networks, and where clouds answer whoever asks with credentials.
FORBIDDEN_NETWORKS: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",
            "fe80::/10",
            "fd00:ec2::/64",  # AWS over IPv6: metadata (::254), DNS, time
            "fd20:ce::254/128",  # Google over IPv6
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAME = re.compile(r"\*|(?:\*\.)?(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


class HostSource(Enum):
    """Who chose a host."""

    BY_SUBMITTER = "submitter"
    BY_OPERATOR = "operator"

    # Members are singletons. Enum's own hashes their names, in Python, and each poke looks two up.
    __hash__ = object.__hash__


class ListenAddress(NamedTuple):
    """An address and a port on which waitd itself listens; an unspecified address stands for all of this machine's."""

    address: Address
    port: int


class EgressRefused(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """The rules do not let a request go there; `why` is for people, and names no address."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class EgressRule(NamedTuple):
    """One entry of a rule list: a network, or the pattern of a name."""

    network: Network | None
    name: str


def parse_egress_rule(text: str) -> EgressRule:
    """The entry that a setting's line describes.

    Raises:
        ValueError: it is neither a network, an address nor a name.
    """
    plain = text.strip().lower().removesuffix(".")
    try:
        return EgressRule(_unmapped(ip_network(plain.removeprefix("[").removesuffix("]"))), "")
    except ValueError:
        pass
    if not _NAME.fullmatch(plain) or parse_address(plain) is not None:
        raise ValueError(f"{text!r} is no network, no address and no host name, with or without *. before it")
    return EgressRule(None, plain)


def _unmapped(network: Network) -> Network:
    """An IPv6 network of nothing but mapped IPv4 addresses is the IPv4 one: its hosts are named and met by those."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def parse_address(host: str) -> Address | None:
    """The address that a host is in any notation in which some client takes it for one; None: it is a name.

    `2130706433`, `0x7f.1`, `0177.0.0.1`, `127.1`, `127.0.0.1.`, `[::ffff:7f00:1]` and `fe80::1%eth0` are addresses.
    """
    text = host.removeprefix("[").removesuffix("]").partition("%")[0].rstrip(".")
    if ":" in text:
        try:
            return IPv6Address(text)
        except ValueError:
            return None
    return _inet_aton(text)


def _inet_aton(text: str) -> IPv4Address | None:
    """As the C library reads it: one to four numbers, decimal, octal or hexadecimal, the last one for all bytes that are left."""
    parts = text.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *first, last = numbers
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


def unwrap_ipv4(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries (mapped, compatible, NAT64, 6to4, Teredo), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64 or (1 < int(address) < 1 << 32):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


@dataclass(frozen=True)
class EgressPolicy:
    """The rules of one daemon.

    Attributes:
        allow: entries that are let through.
        deny: entries that are not.
        private: whether a submitter may name hosts of private networks (all that are not public: loopback and the like, too) without an
            entry in `allow`. So it is where waitd listens on loopback only, and its submitters are this machine's own programs.
    """

    allow: tuple[EgressRule, ...] = ()
    deny: tuple[EgressRule, ...] = ()
    private: bool = True

    @classmethod
    def of(cls, allow: Iterable[str], deny: Iterable[str], *, private: bool) -> "EgressPolicy":
        """The rules that settings describe. Raises ValueError as `parse_egress_rule` does."""
        return cls(tuple(map(parse_egress_rule, allow)), tuple(map(parse_egress_rule, deny)), private)

    def judge_host(
        self, host: str, port: int, named: HostSource, listeners: Sequence[ListenAddress] = ()
    ) -> HostSource:
        """Judges a host by its name, or, where it is an address in whatever notation, by that.

        Returns:
            As whose choice its address is to be judged: a name in `allow` is the operator's.

        Raises:
            EgressRefused: no request may go there.
        """
        address = parse_address(host)
        if address is not None:
            if named is HostSource.BY_OPERATOR and self._verdict_on(address) is False:
                raise EgressRefused("egress_deny names this address")
            self.judge_address(address, named, is_own=is_own_listener(address, port, listeners))
            return named
        verdict = self._verdict_on_name(host.lower().rstrip("."))
        if verdict is False:
            raise EgressRefused("egress_deny names this host")
        return HostSource.BY_OPERATOR if verdict else named

    def judge_address(self, address: Address, named: HostSource, *, is_own: bool) -> None:
        """Judges the address that a socket is about to connect to. `is_own_listener`: waitd itself listens there.

        Raises:
            EgressRefused: no request may go there.
        """
        if is_own:
            raise EgressRefused("waitd's own listener is no target")
        if any(one in network for network in FORBIDDEN_NETWORKS for one in {address, unwrap_ipv4(address)}):
            raise EgressRefused("link-local and cloud metadata addresses are no targets")
        if named is HostSource.BY_OPERATOR:
            return
        verdict = self._verdict_on(address)
        if verdict is False:
            raise EgressRefused("egress_deny names this address")
        if verdict is None and not self.private and not _is_public(unwrap_ipv4(address)):
            raise EgressRefused(
                "addresses of private networks are targets only where egress_allow names them"
            )

    def _verdict_on(self, address: Address) -> bool | None:
        """True: allowed, False: denied, None: no entry matches."""
        allowed = max((_fit(entry, address) for entry in self.allow), default=-1)
        denied = max((_fit(entry, address) for entry in self.deny), default=-1)
        return None if max(allowed, denied) < 0 else allowed > denied

    def _verdict_on_name(self, name: str) -> bool | None:
        allowed = max((_fit_name(entry, name) for entry in self.allow), default=-1)
        denied = max((_fit_name(entry, name) for entry in self.deny), default=-1)
        return None if max(allowed, denied) < 0 else allowed > denied


def _is_public(address: Address) -> bool:
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not site_local


def _fit(entry: EgressRule, address: Address) -> int:
    """How specific the match is, in bits; -1: there is none. An IPv4 network counts as the IPv6 one that it is mapped to."""
    best = -1
    for one in (address, unwrap_ipv4(address)):
        if entry.network is not None and one in entry.network:
            best = max(best, entry.network.prefixlen + (96 if entry.network.version == 4 else 0))
    return best


def _fit_name(entry: EgressRule, name: str) -> int:
    if entry.network is not None:
        return -1
    if entry.name == name:
        return 1000
    if entry.name.startswith("*") and name.endswith(entry.name[1:]):
        return len(entry.name)
    return -1


def is_own_listener(
    address: Address,
    port: int,
    listeners: Sequence[ListenAddress],
    is_local: Callable[[Address], bool] = lambda address: address.is_loopback,
) -> bool:
    """Whether waitd itself answers at an address. `is_local`: whether an address is one of this machine's."""
    there = unwrap_ipv4(address)
    for listener in listeners:
        if port != listener.port:
            continue
        if there.is_unspecified or there == listener.address:
            return True
        if listener.address.is_unspecified and is_local(there):
            return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a host to listen on can be reached from this machine only."""
    address = parse_address(host)
    return host == "localhost" if address is None else unwrap_ipv4(address).is_loopback


def listen_address(host: str, port: int) -> ListenAddress:
    """The listener at an address as a socket names it."""
    return ListenAddress(ip_address(host.partition("%")[0]), port)
