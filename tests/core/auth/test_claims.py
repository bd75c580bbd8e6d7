"""How the claims of a verified token become a principal."""

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


def test_a_valid_token_gives_a_principal_until_it_expires() -> None:
    assert verify_claims(CLAIMS, RULES, NOW) == (Principal("oidc:u1", Role.VIEWER, "default"), NOW + 300)


@pytest.mark.parametrize("aud", ["waitd", ["other", "api://waitd"]])
def test_one_accepted_audience_is_enough(aud: Any) -> None:
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
def test_a_wrong_issuer_audience_subject_or_time_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        verify_claims({**CLAIMS, **changed}, RULES, NOW)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "times", [{"exp": NOW - CLOCK_LEEWAY + 1, "nbf": NOW + CLOCK_LEEWAY - 1}, {"nbf": NOW + CLOCK_LEEWAY}]
)
def test_clocks_may_differ_by_the_leeway(times: dict[str, float]) -> None:
    assert verify_claims({**CLAIMS, **times}, RULES, NOW)


def test_the_message_says_that_a_token_is_not_valid_yet() -> None:
    with pytest.raises(Unauthenticated, match="not valid yet"):
        verify_claims({**CLAIMS, "nbf": NOW + CLOCK_LEEWAY + 1}, RULES, NOW)


@pytest.mark.parametrize("roles", [["ops", "readers"], ["readers", "ops", 7, "unknown"], "ops"])
def test_the_highest_role_counts(roles: Any) -> None:
    assert verify_claims({**CLAIMS, "roles": roles}, RULES, NOW).principal.role is Role.OPERATOR


@pytest.mark.parametrize("roles", [[], None, ["OPS"], {"ops": True}, ["admin"]])
def test_a_token_without_a_role_is_forbidden(roles: Any) -> None:
    with pytest.raises(Forbidden) as raised:
        verify_claims({**CLAIMS, "roles": roles}, RULES, NOW)
    assert raised.value.reason == "no_role"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["ops"]}}),
        ("https://waitd.example/roles", {"https://waitd.example/roles": ["ops"]}),
    ],
)
def test_a_role_claim_is_a_dotted_path_or_a_name_with_dots(name: str, claims: dict[str, Any]) -> None:
    rules = ClaimRules(RULES.issuer, RULES.audiences, name, RULES.roles)
    assert verify_claims({**CLAIMS, **claims}, rules, NOW).principal.role is Role.OPERATOR


def test_the_namespace_claim_names_the_namespace() -> None:
    rules = ClaimRules(RULES.issuer, RULES.audiences, "roles", RULES.roles, "team")
    assert verify_claims({**CLAIMS, "team": "team_a"}, rules, NOW).principal.namespace == "team_a"
    for wrong in (None, "", "a/b", ["team_a"], "*"):
        with pytest.raises(Forbidden) as raised:
            verify_claims({**CLAIMS, "team": wrong}, rules, NOW)
        assert raised.value.reason == "no_namespace"


@pytest.mark.parametrize("length", [1, 255])
def test_a_subject_has_up_to_255_characters(length: int) -> None:
    assert verify_claims({**CLAIMS, "sub": "s" * length}, RULES, NOW).principal.name == "oidc:" + "s" * length
