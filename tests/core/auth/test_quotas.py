"""What namespaces and principals may hold at the same time."""

import pytest

from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal, Role
from waitd.core.auth.quotas import DEFAULT_SHARES, GUARANTEED, Exceeded, Quota, Resource, Share
from waitd.core.errors import LimitReached

STREAMS = Resource.EVENT_STREAMS


def caller(name: str, namespace: str = "a") -> Principal:
    return Principal(name, Role.VIEWER, namespace)


def held_by(quota: Quota, principal: Principal) -> int:
    """Holds as much as the principal may; returns how much."""
    held = 0
    while quota.exceeded(principal) is None:
        quota.add(principal)
        held += 1
        assert held < 1000, "there is no limit"
    return held


def test_a_principal_and_a_namespace_have_shares_and_others_keep_theirs() -> None:
    quota = Quota(STREAMS, Share(namespace=5, principal=3))
    assert held_by(quota, caller("one")) == 3
    assert quota.exceeded(caller("one")) == Exceeded("event_streams_per_principal", "you", 3)
    assert held_by(quota, caller("two")) == 2
    refused = Exceeded("event_streams_per_namespace", "the namespace a", 5)
    assert quota.exceeded(caller("two")) == quota.exceeded(caller("three")) == refused
    assert held_by(quota, caller("other", "b")) == 3


def test_a_share_is_free_again_and_nothing_is_kept() -> None:
    quota = Quota(STREAMS, Share(namespace=2, principal=1))
    one, two = caller("one"), caller("two")
    for _ in range(3):
        assert [held_by(quota, one), held_by(quota, two)] == [1, 1]
        quota.remove(one)
        assert quota.exceeded(one) is None
        quota.remove(two)
    assert (quota._held, quota._by_namespace, quota._by_principal) == (0, {}, {})


def test_a_namespace_and_a_principal_of_the_same_name_are_counted_apart() -> None:
    quota = Quota(STREAMS, Share(namespace=5, principal=1))
    quota.add(caller("a", "b"))
    assert quota.exceeded(caller("c", "a")) is None


def test_the_shares_of_a_single_namespace() -> None:
    quota = Quota(STREAMS, Share(2, 2), namespaces={"b": Share(4, 3)})
    assert [held_by(quota, caller("one", "a")), held_by(quota, caller("two", "b"))] == [2, 3]
    assert held_by(quota, caller("three", "b")) == 1


def test_all_together_have_a_total_but_for_what_each_namespace_is_guaranteed() -> None:
    quota = Quota(STREAMS, Share(100, 100), total=120)
    assert held_by(quota, caller("one", "a")) == 100
    assert held_by(quota, caller("two", "b")) == 20
    refused = Exceeded("max_event_streams", "all callers together", 120)
    assert quota.exceeded(caller("two", "b")) == refused
    assert held_by(quota, caller("three", "c")) == GUARANTEED
    assert quota.exceeded(caller("three", "c")) == refused


def test_a_total_of_zero_allows_none() -> None:
    assert held_by(Quota(STREAMS, total=0), caller("one")) == 0


def test_this_machine_has_no_share_but_the_total_and_that_of_lists() -> None:
    quota = Quota(STREAMS, Share(1, 1), total=30)
    assert held_by(quota, LOOPBACK_PRINCIPAL) == 30
    assert held_by(Quota(Resource.READS), LOOPBACK_PRINCIPAL) == DEFAULT_SHARES[Resource.READS].principal


@pytest.mark.parametrize("limited", [each for each in Resource if each is not Resource.REQUESTS])
def test_by_default_no_principal_has_the_share_of_its_namespace(limited: Resource) -> None:
    share = DEFAULT_SHARES[limited]
    assert 0 < share.principal < share.namespace < float("inf")


def test_the_message_of_a_limit_has_all_digits() -> None:
    for most, shown in ((2_000_000, "2,000,000"), (8 * 1024**3, "8,589,934,592"), (0.25, "0.25")):
        error = LimitReached("ended_waits_per_principal", "you", most, 30)
        assert str(error) == f"you may have {shown} (the limit ended_waits_per_principal)"
