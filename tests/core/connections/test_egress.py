"""The policy policy: addresses in every notation, and the operator's policy."""

from contextlib import nullcontext
from ipaddress import ip_address

import pytest

from waitd.core.connections.egress import (
    EgressPolicy,
    EgressRefused,
    HostSource,
    ListenAddress,
    is_loopback,
    is_own_listener,
    listen_address,
    parse_egress_rule,
)

SUBMITTER, OPERATOR = HostSource.SUBMITTER, HostSource.OPERATOR
METADATA = [
    "169.254.169.254", "169.254.0.1", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "025177524776", "169.16689662",
    "169.254.43518", "169.254.169.254.", "0xa9.254.0251.254", "::ffff:169.254.169.254", "[::ffff:a9fe:a9fe]", "::169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fe80::1", "fe80::1%eth0", "[fe80::1%25eth0]", "FEBF::1", "fd00:ec2::254", "fd00:0ec2:0:0::254",
    "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0", "64:ff9b:1:aaaa:bbbb:cccc:a9fe:a9fe", "[::ffff:0:a9fe:a9fe]", "::ffff:0:169.254.169.254",
    "2001:0:4136:e378:8000:63bf:5601:5601", "2001:0:a9fe:a9fe:8000:63bf:3fff:fdd2", "2606:4700::5efe:a9fe:a9fe", "2606:4700::200:5efe:a9fe:a9fe",
    "2001:db8::5efe:169.254.169.254", "64:ff9b::100.100.100.200", "2002:6464:64c8::", "::ffff:168.63.129.16", "::168.63.129.16",
    "\uff11\uff16\uff19.\uff12\uff15\uff14.169.254", "169\u3002254\uff0e169\uff61254", "\u2460\u2465\u2468.254.169.254", "169.254.169.254..", "000251.0xfe.43518",
    "100.100.100.200", "1684301000", "168.63.129.16", "0xa83f8110", "192.0.0.192", "::ffff:c000:c0",
]  # fmt: skip


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("source", list(HostSource))
def test_metadata_and_link_local_addresses_are_refused_in_every_notation(
    host: str, source: HostSource
) -> None:
    policy = EgressPolicy.from_settings(["0.0.0.0/0", "::/0", "169.254.169.254/32", "*"], [], private=True)
    with pytest.raises(EgressRefused, match="not allowed"):
        policy.check_host(host, 80, source)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "[::1]", "::ffff:127.0.0.1", "0.0.0.0", "0", "[::]", "10.1.2.3", "0xa.1.2.3", "172.16.0.1",
        "192.168.1.1", "100.64.0.1", "[fd12::1]", "[fec0::1]", "224.0.0.1", "240.0.0.1", "255.255.255.255", "64:ff9b::a00:1",
        "3fff::1", "3fff:fff:ffff::1", "2001:db8::1", "5f00::1", "100::1", "100:0:0:1::1", "64:ff9b:1::1", "64:ff9b:1::808:808", "4000::1", "ff0e::1",
        "::ffff:0:10.0.0.1", "::10.0.0.1", "2002:a00:1::1", "2002:7f00:1::", "2001:0:808:808::f5ff:fffe", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:a00:1",
        "3fff::5efe:808:808", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1", "192.0.0.1", "2001:2::1", "\uff11\uff10.1.2.3",
    ],
)  # fmt: skip
def test_private_networks_are_refused_unless_waitd_listens_on_loopback(host: str) -> None:
    with pytest.raises(EgressRefused, match="egress_allow"):
        EgressPolicy(private=False).check_host(host, 80, SUBMITTER)
    assert EgressPolicy(private=True).check_host(host, 80, SUBMITTER) is SUBMITTER
    assert EgressPolicy(private=False).check_host(host, 80, OPERATOR) is OPERATOR


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8", "[2606:4700::1111]", "example.org", "localhost", "64:ff9b::808:808", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:f7f7:f7f7", "2606:4700::5efe:808:808", "4000.example",
    ],
)  # fmt: skip
def test_public_addresses_and_names_are_allowed(host: str) -> None:
    assert EgressPolicy(private=False).check_host(host, 80, SUBMITTER) is SUBMITTER


@pytest.mark.parametrize(
    ("allow", "deny", "host", "is_allowed"),
    [
        (["10.2.0.0/16"], [], "10.2.3.4", True),
        (["10.2.0.0/16"], [], "[::ffff:10.2.3.4]", True),
        (["10.2.0.0/16"], [], "10.3.3.4", False),
        (["10.2.0.0/16"], [], "2606:4700::5efe:10.2.3.4", True),
        (["10.2.0.0/16"], [], "2001:0:a03:304::f5fd:fcfb", False),
        (["10.2.0.0/16", "10.3.0.0/16"], [], "2001:0:a03:304::f5fd:fcfb", True),
        (["64:ff9b:1::/48"], [], "64:ff9b:1::a00:1", True),
        (["2000::/3"], ["10.0.0.0/8"], "2002:a00:1::", False),
        ([], ["evil.example"], "\uff45vil\u3002example", False),
        (["10.0.0.0/8"], ["10.2.0.0/16"], "10.2.3.4", False),
        (["10.0.0.0/8"], ["10.2.0.0/16"], "10.3.3.4", True),
        (["10.2.3.4"], ["10.2.0.0/16"], "10.2.3.4", True),
        (["10.2.0.0/16"], ["10.2.0.0/16"], "10.2.3.4", False),
        (["8.8.8.8"], ["0.0.0.0/0", "::/0"], "8.8.8.8", True),
        (["8.8.8.8"], ["0.0.0.0/0", "::/0"], "8.8.4.4", False),
        ([], ["8.8.8.0/24"], "134744072", False),
        ([], ["8.8.8.0/24"], "[::ffff:8.8.8.8]", False),
        ([], ["evil.example"], "evil.example", False),
        ([], ["evil.example"], "EVIL.example.", False),
        ([], ["evil.example"], "not-evil.example", True),
        ([], ["*.example"], "a.b.example", False),
        ([], ["*.example"], "example", True),
        (["good.example"], ["*.example"], "good.example", True),
        (["*.good.example"], ["*.example"], "a.good.example", True),
        (["*.example"], ["bad.example"], "bad.example", False),
        (["api.example"], ["*"], "api.example", True),
        (["api.example"], ["*"], "other.example", False),
    ],
)
def test_the_most_specific_entry_wins_and_of_equal_ones_the_denying_one(
    allow: list[str], deny: list[str], host: str, is_allowed: bool
) -> None:
    policy = EgressPolicy.from_settings(allow, deny, private=False)
    with nullcontext() if is_allowed else pytest.raises(EgressRefused):
        policy.check_host(host, 443, SUBMITTER)


def test_a_name_in_egress_allow_is_trusted_with_its_address() -> None:
    policy = EgressPolicy.from_settings(["airbyte.internal"], [], private=False)
    assert policy.check_host("airbyte.internal", 80, SUBMITTER) is OPERATOR
    policy.check_address(ip_address("10.0.0.1"), OPERATOR, is_own=False)
    with pytest.raises(EgressRefused):
        policy.check_address(ip_address("10.0.0.1"), SUBMITTER, is_own=False)
    with pytest.raises(EgressRefused):
        policy.check_address(ip_address("169.254.169.254"), OPERATOR, is_own=False)


@pytest.mark.parametrize("host", ["10.1.2.3", "0xa.1.2.3", "evil.example"])
def test_a_connections_host_is_checked_by_its_name(host: str) -> None:
    with pytest.raises(EgressRefused, match="egress_deny"):
        EgressPolicy.from_settings([], ["10.0.0.0/8", "evil.example"], private=True).check_host(
            host, 80, OPERATOR
        )


LOOPBACK, EVERYWHERE = (
    ListenAddress(ip_address("127.0.0.1"), 8795),
    ListenAddress(ip_address("0.0.0.0"), 8795),
)


@pytest.mark.parametrize(
    ("listener", "host", "port", "own"),
    [
        (LOOPBACK, "127.0.0.1", 8795, True), (LOOPBACK, "127.0.0.1", 8796, False), (LOOPBACK, "127.0.0.2", 8795, False),
        (LOOPBACK, "2130706433", 8795, True), (LOOPBACK, "[::ffff:127.0.0.1]", 8795, True), (LOOPBACK, "0.0.0.0", 8795, True),
        (LOOPBACK, "[::]", 8795, True), (LOOPBACK, "64:ff9b::7f00:1", 8795, True), (LOOPBACK, "::ffff:0:7f00:1", 8795, True),
        (LOOPBACK, "64:ff9b:1::7f00:1", 8795, True), (LOOPBACK, "64:ff9b:1::7f00:2", 8795, False), (listen_address("::ffff:127.0.0.1", 1), "127.0.0.1", 1, True), (EVERYWHERE, "127.0.0.1", 8795, True), (EVERYWHERE, "[::1]", 8795, True),
        (EVERYWHERE, "8.8.8.8", 8795, False), (ListenAddress(ip_address("::1"), 1), "[0::1]", 1, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", list(HostSource))
def test_waitds_own_listener_is_refused(
    listener: ListenAddress, host: str, port: int, own: bool, source: HostSource
) -> None:
    with pytest.raises(EgressRefused, match="own listener") if own else nullcontext():
        EgressPolicy().check_host(host, port, source, [listener])


def test_a_listener_on_all_addresses_is_own_at_each_local_address() -> None:
    local = ip_address("10.0.0.7")
    assert is_own_listener(local, 8795, [EVERYWHERE], lambda address: address == local)
    assert not is_own_listener(ip_address("10.0.0.8"), 8795, [EVERYWHERE], lambda address: address == local)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/33", "http://h", "a b", "h:80", "*x.example", "a.*.b", "10.1", "0x7f.1", "10.0.0.1/8", "-/-"]
)  # fmt: skip
def test_an_invalid_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a network"):
        parse_egress_rule(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("waitd.internal", False)],
)  # fmt: skip
def test_a_loopback_host_is_recognized(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("allow", "deny", "is_allowed"),
    [
        ("10.0.0.0/24", "::ffff:10.0.0.0/119", True),
        ("10.0.0.0/24", "::ffff:10.0.0.0/120", False),
        ("10.0.0.0/24", "::ffff:10.0.0.0/121", False),
        ("::ffff:10.0.0.0/121", "10.0.0.0/24", True),
        ("0.0.0.0/0", "11.0.0.0/8", True),
        ("10.0.0.0/24", "::/0", True),
    ],
)
def test_an_ipv4_network_is_as_specific_as_its_mapped_ipv6_network(
    allow: str, deny: str, is_allowed: bool
) -> None:
    policy = EgressPolicy.from_settings([allow], [deny], private=False)
    for host in ("10.0.0.1", "::ffff:10.0.0.1"):
        with nullcontext() if is_allowed else pytest.raises(EgressRefused, match="names this address"):
            assert policy.check_host(host, 80, SUBMITTER) is SUBMITTER


def test_an_ipv4_network_is_more_specific_than_a_nat64_network() -> None:
    policy = EgressPolicy.from_settings(["10.0.0.0/24"], ["64:ff9b::/96"], private=False)
    assert policy.check_host("64:ff9b::a00:1", 80, SUBMITTER) is SUBMITTER
    with pytest.raises(EgressRefused, match="egress_deny"):
        policy.check_host("64:ff9b::a00:101", 80, SUBMITTER)


def test_each_listener_is_compared() -> None:
    listeners = [ListenAddress(ip_address("10.0.0.1"), 80), ListenAddress(ip_address("10.0.0.1"), 8795)]
    assert is_own_listener(ip_address("10.0.0.1"), 8795, listeners)


def test_an_entry_for_addresses_does_not_match_names() -> None:
    for policy in (
        EgressPolicy.from_settings(["10.0.0.0/8", "::/0"], [], private=False),
        EgressPolicy.from_settings([], ["10.0.0.0/8"], private=False),
    ):
        assert policy.check_host("jobs.example", 80, SUBMITTER) is SUBMITTER


def test_a_name_that_is_both_allowed_and_denied_is_denied() -> None:
    with pytest.raises(EgressRefused, match="names this host"):
        EgressPolicy.from_settings(["a.example"], ["a.example"], private=True).check_host(
            "a.example", 80, SUBMITTER
        )


def test_the_widest_network_is_an_entry() -> None:
    assert (
        EgressPolicy.from_settings(["::/0"], [], private=False).check_host("fd00::1", 80, SUBMITTER)
        is SUBMITTER
    )
    with pytest.raises(EgressRefused, match="private networks"):
        EgressPolicy.from_settings([], [], private=False).check_host("fd00::1", 80, SUBMITTER)


def test_an_entry_may_be_written_as_in_a_url() -> None:
    assert parse_egress_rule(" [FD00::1] ") == parse_egress_rule("fd00::1")
    assert parse_egress_rule("Jobs.Example.") == parse_egress_rule("jobs.example")
