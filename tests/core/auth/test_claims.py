"""What a verified token says, and what it gives its bearer."""

from typing import Any

import pytest

from waitd.core.auth.claims import CLOCK_LEEWAY, ClaimRules, verify_claims
from waitd.core.auth.principal import Principal, Role
from waitd.core.errors import Forbidden, Unauthenticated

NOW = 1_750_000_000.0
RULES = ClaimRules(
    "https://id.example",
    frozenset({"waitd", "api://waitd"}),
    "roles",
    {"readers": Role.VIEWER, "ops": Role.OPERATOR},
)
CLAIMS: dict[str, Any] = {
    "iss": "https://id.example",
    "aud": "waitd",
    "sub": "u1",
    "exp": NOW + 300,
    "roles": ["readers"],
}


def test_a_good_token_gives_a_principal_until_it_expires() -> None:
    assert verify_claims(CLAIMS, RULES, NOW) == (Principal("oidc:u1", Role.VIEWER, "default"), NOW + 300)


@pytest.mark.parametrize("aud", ["waitd", ["other", "api://waitd"]])
def test_one_audience_of_many_will_do(aud: Any) -> None:
    assert verify_claims({**CLAIMS, "aud": aud}, RULES, NOW)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://id.example/"}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"aud": "other"}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"aud": {"waitd": 1}}, "wrong_audience"),
        ({"exp": NOW - CLOCK_LEEWAY}, "expired"),
        ({"exp": None}, "no_times"),
        ({"exp": "2099"}, "no_times"),
        ({"exp": True}, "no_times"),
        ({"exp": float("nan")}, "no_times"),
        ({"exp": 1e300}, "no_times"),
        ({"nbf": NOW + CLOCK_LEEWAY + 1}, "not_yet_valid"),
        ({"nbf": "now"}, "no_times"),
        ({"sub": None}, "no_subject"),
        ({"sub": ""}, "no_subject"),
        ({"sub": "a\nb"}, "no_subject"),
        ({"sub": "x" * 256}, "no_subject"),
    ],
)
def test_a_token_of_another_for_another_or_not_of_this_time(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verify_claims({**CLAIMS, **changed}, RULES, NOW)
    assert refused.value.reason == reason


def test_clocks_may_be_a_little_apart() -> None:
    assert verify_claims({**CLAIMS, "exp": NOW - CLOCK_LEEWAY + 1, "nbf": NOW + CLOCK_LEEWAY - 1}, RULES, NOW)


@pytest.mark.parametrize("given", [["ops", "readers"], ["readers", "ops", 7, "unknown"], "ops"])
def test_the_highest_role_counts(given: Any) -> None:
    assert verify_claims({**CLAIMS, "roles": given}, RULES, NOW).principal.role is Role.OPERATOR


@pytest.mark.parametrize("given", [[], None, ["OPS"], {"ops": True}, ["admin"]])
def test_a_token_without_a_role_is_forbidden(given: Any) -> None:
    with pytest.raises(Forbidden) as refused:
        verify_claims({**CLAIMS, "roles": given}, RULES, NOW)
    assert refused.value.reason == "no_role"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["ops"]}}),
        ("https://waitd.example/roles", {"https://waitd.example/roles": ["ops"]}),
    ],
)
def test_a_claim_may_lie_deeper_or_have_dots_in_its_name(name: str, claims: dict[str, Any]) -> None:
    rules = ClaimRules(RULES.issuer, RULES.audiences, name, RULES.roles)
    assert verify_claims({**CLAIMS, **claims}, rules, NOW).principal.role is Role.OPERATOR


def test_a_token_names_its_namespace_if_a_claim_is_configured() -> None:
    rules = ClaimRules(RULES.issuer, RULES.audiences, "roles", RULES.roles, "team")
    assert verify_claims({**CLAIMS, "team": "team_a"}, rules, NOW).principal.namespace == "team_a"
    for wrong in (None, "", "a/b", ["team_a"], "*"):
        with pytest.raises(Forbidden) as refused:
            verify_claims({**CLAIMS, "team": wrong}, rules, NOW)
        assert refused.value.reason == "no_namespace"


@pytest.mark.parametrize("length", [1, 255])
def test_a_subject_may_be_as_long_as_the_specification_lets_it(length: int) -> None:
    assert verify_claims({**CLAIMS, "sub": "s" * length}, RULES, NOW).principal.name == "oidc:" + "s" * length
    with pytest.raises(Unauthenticated):
        verify_claims({**CLAIMS, "sub": "s" * 256}, RULES, NOW)


def test_a_token_is_good_from_a_little_before_its_first_moment_on() -> None:
    assert verify_claims({**CLAIMS, "nbf": NOW + CLOCK_LEEWAY}, RULES, NOW)
    with pytest.raises(Unauthenticated, match="not valid yet"):
        verify_claims({**CLAIMS, "nbf": NOW + CLOCK_LEEWAY + 1}, RULES, NOW)
