"""Turns the claims of a verified JWT into a principal (RFC 7519, OpenID Connect Core).

`waitd.auth` verifies the signature; the operator's rules give the role and the namespace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from waitd.core.auth.principal import DEFAULT_NAMESPACE, Principal, Role, check_namespace
from waitd.core.errors import Forbidden, Unauthenticated

#: How far the clocks of the issuer and of waitd may differ, in seconds.
CLOCK_LEEWAY = 30.0
#: The longest subject (OpenID Connect Core, section 2).
_MAX_SUBJECT = 255


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What a token must contain, and how its claims become a role and a namespace.

    Attributes:
        issuer: the required `iss`.
        audiences: at least one of them must be in `aud`.
        role_claim: the claim that names roles or groups, a string or a list of strings. Dots lead
            into objects, as in `realm_access.roles`.
        roles: maps those names to roles; the highest role counts.
        namespace_claim: the claim that names the namespace; "" puts everyone into the default one.
    """

    issuer: str
    audiences: frozenset[str]
    role_claim: str
    roles: Mapping[str, Role]
    namespace_claim: str = ""


class VerifiedToken(NamedTuple):
    """The caller whom a token identifies, and when the token expires (Unix seconds)."""

    principal: Principal
    expires_at: float


def verify_claims(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> VerifiedToken:
    """Checks the claims of a token whose signature is valid.

    Args:
        claims: the decoded payload.
        rules: the operator's rules.
        now: Unix seconds.

    Raises:
        Unauthenticated: the issuer, audience, subject or times are not acceptable.
        Forbidden: the claims give the caller no role or no namespace.
    """
    if claims.get("iss") != rules.issuer:
        raise Unauthenticated("wrong_issuer", "the token's issuer is not the one in oidc_issuer")
    if rules.audiences.isdisjoint(_strings(claims.get("aud"))):
        raise Unauthenticated("wrong_audience", "the token's audience is not among oidc_audience")
    expires_at = _check_time(claims, now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise Unauthenticated("no_subject", "the token has no subject (sub)")
    return VerifiedToken(
        Principal(f"oidc:{subject}", _role(claims, rules), _namespace(claims, rules)), expires_at
    )


def _check_time(claims: Mapping[str, Any], now: float) -> float:
    expires_at, not_before = _time(claims.get("exp")), _time(claims.get("nbf", 0))
    if expires_at is None or not_before is None:
        raise Unauthenticated("no_times", "the token has no valid expiry (exp) or start (nbf)")
    if now >= expires_at + CLOCK_LEEWAY:
        raise Unauthenticated("expired", "the token has expired")
    if now < not_before - CLOCK_LEEWAY:
        raise Unauthenticated("not_yet_valid", "the token is not valid yet")
    return expires_at


def _role(claims: Mapping[str, Any], rules: ClaimRules) -> Role:
    roles = [rules.roles[name] for name in _strings(_claim(claims, rules.role_claim)) if name in rules.roles]
    if not roles:
        raise Forbidden("no_role", f"oidc_roles maps nothing in the token's claim {rules.role_claim!r}")
    return max(roles)


def _namespace(claims: Mapping[str, Any], rules: ClaimRules) -> str:
    if not rules.namespace_claim:
        return DEFAULT_NAMESPACE
    name = _claim(claims, rules.namespace_claim)
    try:
        return check_namespace(name if isinstance(name, str) else "")
    except ValueError:
        raise Forbidden(
            "no_namespace", f"the token's claim {rules.namespace_claim!r} is not a namespace"
        ) from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name or, if there is none, the one at the dotted path."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _time(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if is_time else None
