"""Roles, namespaces, and what the waits of a namespace may use."""

import pytest

from waitd.core.auth.namespaces import NamespaceRules, Namespaces
from waitd.core.auth.principal import (
    LOOPBACK_PRINCIPAL,
    ROLES_BY_NAME,
    Principal,
    Role,
    check_key_namespace,
    check_namespace,
)


def test_each_role_includes_the_ones_below_it() -> None:
    ranks = [ROLES_BY_NAME[name] for name in ("viewer", "submitter", "operator", "admin")]
    for index, role in enumerate(ranks):
        principal = Principal("key:a", role)
        assert [principal.has_role(needed) for needed in ranks] == [
            needed in ranks[: index + 1] for needed in ranks
        ]


def test_only_an_admin_sees_other_namespaces() -> None:
    assert {
        Principal("p", role, "team_a").visible_namespace
        for role in (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR)
    } == {"team_a"}
    assert Principal("p", Role.ADMIN, "team_a").visible_namespace is None
    assert (LOOPBACK_PRINCIPAL.visible_namespace, LOOPBACK_PRINCIPAL.namespace) == (None, "default")


@pytest.mark.parametrize("text", ["", "*", "a b", "_a", "a/b", "ü", "a" * 64, "a\n"])
def test_an_invalid_namespace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        check_namespace(text)


def test_a_viewers_key_may_be_for_all_namespaces() -> None:
    assert check_key_namespace("*", Role.VIEWER) == "*"
    assert Principal("p", Role.VIEWER, "*").visible_namespace is None
    assert check_key_namespace("team_a", Role.VIEWER) == check_key_namespace("team_a", Role.ADMIN) == "team_a"


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.OPERATOR, Role.ADMIN])
def test_only_a_viewer_may_have_all_namespaces(role: Role) -> None:
    with pytest.raises(ValueError, match="for a viewer"):
        check_key_namespace("*", role)


TEAM = NamespaceRules(("team_a_*", "Shared"), ("*.team-a.example.org", "hooks.example.org"), ("team_a_*",))


def test_without_rules_every_namespace_may_use_everything() -> None:
    assert Namespaces().rules("any_namespace") is None


def test_with_any_rules_a_namespace_without_rules_may_use_nothing() -> None:
    rules = Namespaces({"team_a": TEAM}).rules("taem_a")
    assert rules is not None
    assert not rules.allows_connection("team_a_x")
    assert not rules.allows_host("hooks.example.org")
    assert not rules.allows_dag("team_a_etl")


def test_the_rules_of_the_star_apply_to_other_namespaces() -> None:
    namespaces = Namespaces({"team_a": TEAM, "*": NamespaceRules(conn_ids=("public",))})
    others, own = namespaces.rules("team_b"), namespaces.rules("team_a")
    assert others is not None
    assert own is TEAM
    assert others.allows_connection("public")
    assert not own.allows_connection("public")


@pytest.mark.parametrize(
    ("conn_id", "allowed"),
    [
        ("team_a_api", True),
        ("TEAM_A_API", True),
        ("shared", True),
        ("team_b_api", False),
        ("xteam_a_api", False),
        ("shared2", False),
    ],
)
def test_conn_ids_match_patterns_regardless_of_case(conn_id: str, allowed: bool) -> None:
    assert TEAM.allows_connection(conn_id) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.team-a.example.org", True),
        ("A.Team-A.example.org.", True),
        ("hooks.example.org", True),
        ("team-a.example.org", False),
        ("a.team-a.example.org.evil.example", False),
        ("evilteam-a.example.org", False),
    ],
)
def test_hosts_match_patterns_as_dns_names(host: str, allowed: bool) -> None:
    assert TEAM.allows_host(host) is allowed


def test_a_sink_without_a_dag_needs_the_right_to_all_dags() -> None:
    assert TEAM.allows_dag("team_a_etl")
    assert not TEAM.allows_dag("Team_A_etl")
    assert not TEAM.allows_dag(None)
    assert NamespaceRules(dag_ids=("*",)).allows_dag(None)
