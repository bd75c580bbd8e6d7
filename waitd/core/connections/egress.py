"""Where requests may go: addresses that are always refused, and the operator's rules for the rest.

A host named by a submitter (`HostSource.SUBMITTER`) is checked by its name and by the address that
it resolves to. A host named by the operator, in a connection, a setting or `egress_allow`
(`HostSource.OPERATOR`), is trusted: its name is checked, and its address only against
`FORBIDDEN_NETWORKS`. An IPv6 address counts as each IPv4 address that it is translated to.

An entry of `egress_allow` or `egress_deny` is a network (`10.2.0.0/16`), an address, a host name,
or `*.` and a domain; `*` matches every name. The most specific matching entry wins; between equally
specific entries, the denying one.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from waitd.core.connections.addresses import (
    Address,
    Network,
    is_forbidden,
    is_public,
    normalize_host,
    parse_address,
    readings,
    translated,
)

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAME = re.compile(r"\*|(?:\*\.)?(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


class HostSource(Enum):
    """Who named a host."""

    SUBMITTER = "submitter"
    OPERATOR = "operator"

    # Members are singletons. Enum's `__hash__` runs in Python, and each poke hashes two members.
    __hash__ = object.__hash__


class ListenAddress(NamedTuple):
    """An address and a port on which waitd listens; `0.0.0.0` and `::` mean all local addresses."""

    address: Address
    port: int


class EgressRefused(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """The policy forbids a request to this host or address.

    `why` is a message without the address.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class EgressRule(NamedTuple):
    """One entry of `egress_allow` or `egress_deny`: a network, or a pattern of names."""

    network: Network | None
    name: str


def parse_egress_rule(text: str) -> EgressRule:
    """Parses an entry of `egress_allow` or `egress_deny`.

    Raises:
        ValueError: it is not a network, an address or a host name.
    """
    entry = text.strip().lower().removesuffix(".")
    try:
        return EgressRule(_unmapped(ip_network(entry.removeprefix("[").removesuffix("]"))), "")
    except ValueError:
        pass
    if not _NAME.fullmatch(entry) or parse_address(entry) is not None:
        raise ValueError(f"{text!r} is not a network, an address, a host name or *. and a domain")
    return EgressRule(None, entry)


def _unmapped(network: Network) -> Network:
    """The IPv4 network that a network of IPv4-mapped addresses stands for; else the network."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


@dataclass(frozen=True)
class EgressPolicy:
    """The egress rules of one daemon.

    Attributes:
        allow: entries that are allowed.
        deny: entries that are denied.
        private: whether submitters may name non-public addresses (private networks, loopback)
            without an entry in `allow`. True if waitd listens on loopback only: its submitters are
            then programs on this machine.
    """

    allow: tuple[EgressRule, ...] = ()
    deny: tuple[EgressRule, ...] = ()
    private: bool = True

    @classmethod
    def from_settings(cls, allow: Iterable[str], deny: Iterable[str], *, private: bool) -> "EgressPolicy":
        """The policy for the settings `egress_allow` and `egress_deny`.

        Raises:
            ValueError: as `parse_egress_rule`.
        """
        return cls(tuple(map(parse_egress_rule, allow)), tuple(map(parse_egress_rule, deny)), private)

    def check_host(
        self, host: str, port: int, source: HostSource, listeners: Sequence[ListenAddress] = ()
    ) -> HostSource:
        """Checks a host by its name or, if it is an address in any notation, by its address.

        Returns:
            The source with which to check its address: OPERATOR for a name in `allow`.

        Raises:
            EgressRefused: no request may go there.
        """
        address = parse_address(host)
        if address is not None:
            if source is HostSource.OPERATOR and self._allows_address(address) is False:
                raise EgressRefused("egress_deny names this address")
            self.check_address(address, source, is_own=is_own_listener(address, port, listeners))
            return source
        allowed = self._allows_name(normalize_host(host))
        if allowed is False:
            raise EgressRefused("egress_deny names this host")
        return HostSource.OPERATOR if allowed else source

    def check_address(self, address: Address, source: HostSource, *, is_own: bool) -> None:
        """Checks the address to which a socket is about to connect.

        Args:
            address: the address.
            source: who named the host, as `check_host` returned it.
            is_own: whether waitd itself listens there.

        Raises:
            EgressRefused: no request may go there.
        """
        if is_own:
            raise EgressRefused("requests to waitd's own listener are not allowed")
        if is_forbidden(address):
            raise EgressRefused("requests to link-local and cloud metadata addresses are not allowed")
        if source is HostSource.OPERATOR:
            return
        allowed = self._allows_address(address)
        if allowed is False:
            raise EgressRefused("egress_deny names this address")
        if allowed is None and not self.private and not is_public(address):
            raise EgressRefused("addresses of private networks are allowed only if egress_allow names them")

    def _allows_address(self, address: Address) -> bool | None:
        """Whether the most specific matching entry allows an address; None if no entry matches.

        An entry that denies one reading of the address denies it. To be allowed, the address itself
        or all others must be.
        """
        inner = [_best(_address_match, self.allow, each) for each in translated(address)]
        allowed = max(_best(_address_match, self.allow, address), min(inner, default=-1))
        denied = max(_best(_address_match, self.deny, each) for each in readings(address))
        return None if max(allowed, denied) < 0 else allowed > denied

    def _allows_name(self, name: str) -> bool | None:
        """Whether the most specific matching entry allows a name; None if no entry matches."""
        allowed = _best(_name_match, self.allow, name)
        denied = _best(_name_match, self.deny, name)
        return None if max(allowed, denied) < 0 else allowed > denied


def _best(match: Callable[[EgressRule, Any], int], entries: Sequence[EgressRule], target: Any) -> int:
    """How specific the most specific match is; -1 if no entry matches."""
    return max((match(entry, target) for entry in entries), default=-1)


def _address_match(entry: EgressRule, address: Address) -> int:
    """How specific the match is, as a prefix length in IPv6; -1 if the entry does not match.

    An IPv4 network counts as its IPv4-mapped IPv6 network.
    """
    network = entry.network
    if network is None or address not in network:
        return -1
    return network.prefixlen + (96 if network.version == 4 else 0)


def _name_match(entry: EgressRule, name: str) -> int:
    """How specific the match is: the pattern's length; -1 if the entry does not match."""
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
    """Whether waitd itself listens at an address; `is_local` says whether it is one of this
    machine's.
    """
    return any(
        port == listener.port
        and (
            target.is_unspecified
            or target == listener.address
            or (listener.address.is_unspecified and is_local(target))
        )
        for listener in listeners
        for target in readings(address)
    )


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is reachable from this machine only."""
    address = parse_address(host)
    return host == "localhost" if address is None else _unmap(address).is_loopback


def listen_address(host: str, port: int) -> ListenAddress:
    """The `ListenAddress` for a host and a port as `socket.getsockname` returns them."""
    return ListenAddress(_unmap(ip_address(host.partition("%")[0])), port)


def _unmap(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped address, as a socket has it, stands for."""
    return getattr(address, "ipv4_mapped", None) or address
