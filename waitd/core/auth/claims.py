"""What a verified JWT says about its bearer (RFC 7519, OpenID Connect Core): who it is, and by the operator's rules, what that one may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from waitd.core.auth.principal import DEFAULT_NAMESPACE, Principal, Role, check_namespace
from waitd.core.errors import Forbidden, Unauthenticated

#: How far the clocks of the issuer and of waitd may be apart, seconds.
CLOCK_LEEWAY = 30.0
#: The longest subject (OpenID Connect Core, section 2).
_MAX_SUBJECT = 255


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What must be in a token, and how its claims become a role and a namespace.

    Attributes:
        audiences: one of them must be among the token's.
        role_claim: where the token names roles or groups, a text or a list; dots lead into objects, as in `realm_access.roles`.
        roles: the role of each of those that have one; the highest counts.
        namespace_claim: where it names its namespace; "": everybody is in the default one.
    """

    issuer: str
    audiences: frozenset[str]
    role_claim: str
    roles: Mapping[str, Role]
    namespace_claim: str = ""


class VerifiedToken(NamedTuple):
    """Who came with a token, and until when it is good, Unix seconds."""

    principal: Principal
    expires_at: float


def verify_claims(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> VerifiedToken:
    """Who came with a token whose signature is right.

    Raises:
        Unauthenticated: it is another's, for another, or not of this time.
        Forbidden: it gives its bearer no role or no namespace here.
    """
    if claims.get("iss") != rules.issuer:
        raise Unauthenticated("wrong_issuer", "the token's issuer is another than oidc_issuer")
    if rules.audiences.isdisjoint(_texts(claims.get("aud"))):
        raise Unauthenticated(
            "wrong_audience", "the token was issued for another audience than oidc_audience"
        )
    expires_at = _check_time(claims, now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise Unauthenticated("no_subject", "the token names no subject")
    return VerifiedToken(
        Principal(f"oidc:{subject}", _role(claims, rules), _namespace(claims, rules)), expires_at
    )


def _check_time(claims: Mapping[str, Any], now: float) -> float:
    expires_at, not_before = _time(claims.get("exp")), _time(claims.get("nbf", 0))
    if expires_at is None or not_before is None:
        raise Unauthenticated(
            "no_times", "the token does not say until when (exp) it is good, or from when (nbf)"
        )
    if now >= expires_at + CLOCK_LEEWAY:
        raise Unauthenticated("expired", "the token has expired")
    if now < not_before - CLOCK_LEEWAY:
        raise Unauthenticated("not_yet_valid", "the token is not good yet")
    return expires_at


def _role(claims: Mapping[str, Any], rules: ClaimRules) -> Role:
    roles = [rules.roles[name] for name in _texts(_claim(claims, rules.role_claim)) if name in rules.roles]
    if not roles:
        raise Forbidden(
            "no_role", f"nothing in the token's claim {rules.role_claim!r} has a role here (oidc_roles)"
        )
    return max(roles)


def _namespace(claims: Mapping[str, Any], rules: ClaimRules) -> str:
    if not rules.namespace_claim:
        return DEFAULT_NAMESPACE
    named = _claim(claims, rules.namespace_claim)
    try:
        return check_namespace(named if isinstance(named, str) else "")
    except ValueError:
        raise Forbidden(
            "no_namespace", f"the token's claim {rules.namespace_claim!r} names no namespace"
        ) from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, or where there is none, the one that its parts lead to."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _time(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if is_time else None
