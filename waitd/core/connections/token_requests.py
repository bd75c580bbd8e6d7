"""What a token endpoint is asked, and how its answer is read; pure.

The auth kinds that need a token:

| auth_type                   | asks                                        | with                                                              |
|-----------------------------|---------------------------------------------|-------------------------------------------------------------------|
| `oauth2_token_request` | extra `token_url`                           | extra `client_id`, `client_secret` (else login, password), `scope`, `audience`; `token_endpoint_auth_method`: `client_secret_basic` (the default) or `client_secret_post` |
| `airflow`                   | extra `token_url`, else Airflow's own below the connection's URL | login and password                     |
| `airbyte`                   | extra `token_url`, else Airbyte's own below the connection's URL | `client_id`, `client_secret` in the same places |
| `google_token_request`    | `token_uri` of the key                      | extra `keyfile_dict` (the key file's JSON, or its text); `scope`, or `target_audience` for an ID token |

A `token_url` may be a path below the connection's URL.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import quote_plus

from waitd.core.connections.connection import Connection, join_url, parse_origin

#: Seconds that a token is taken to last where its endpoint does not say.
DEFAULT_LIFETIME = 300.0
#: How long before its end a token is renewed, where nothing else is known of its endpoint, in seconds.
RENEWAL_MARGIN = 60.0
#: The longest life that is believed.
MAX_LIFETIME = 7 * 86_400.0
#: How long an assertion may be used, seconds.
_ASSERTION_LIFETIME = 3600
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a secret


@dataclass(frozen=True, slots=True)
class JwtAssertion:
    """A JWT that is signed with RS256 and sent as `assertion`. `claims` are sent beside issuer, audience and times."""

    issuer: str
    audience: str
    private_key: str = field(repr=False)
    key_id: str | None
    claims: tuple[tuple[str, str], ...]

    def payload(self, now: float) -> dict[str, Any]:
        """All claims, made at `now`, Unix seconds."""
        return {
            **dict(self.claims),
            "iss": self.issuer,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(now) + _ASSERTION_LIFETIME,
        }


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A question to a token endpoint. Equal ones have one answer in common.

    Attributes:
        url: where it is POSTed.
        fields: the body's, as a form, or with `as_json` as JSON.
        login: name and password for HTTP Basic, or None.
        assertion: what is signed and sent as the field `assertion`, or None.
        answer: the field of the answer that holds the token.
        verify_tls: whether the endpoint's certificate is checked.
        is_jwt: whether the token itself says how long it lasts, being a JWT.
        renewal_margin: the token is renewed when a fifth of its life is left, but no sooner than this many seconds before its end.
    """

    url: str
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    as_json: bool = False
    login: tuple[str, str] | None = field(default=None, repr=False)
    assertion: JwtAssertion | None = None
    answer: str = "access_token"
    verify_tls: bool = True
    is_jwt: bool = False
    renewal_margin: float = RENEWAL_MARGIN


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and for how many seconds it holds."""

    value: str = field(repr=False)
    lifetime: float
    renewal_margin: float = RENEWAL_MARGIN

    @property
    def renew_after(self) -> float:
        """After how many seconds a new one is asked for."""
        return self.lifetime - min(self.renewal_margin, self.lifetime / 5)


def parse_token(grant: TokenRequest, answer: object) -> IssuedToken:
    """The token in a token endpoint's decoded answer.

    Raises:
        ValueError: there is none that can be sent; the message quotes nothing of the answer.
    """
    value = answer.get(grant.answer) if isinstance(answer, Mapping) else None
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isprintable()
        or " " in value
        or not value
    ):
        raise ValueError(f"the token endpoint's answer has no {grant.answer}")
    lifetime = answer.get("expires_in") if isinstance(answer, Mapping) else None
    if grant.is_jwt:
        lifetime = _jwt_lifetime(value)
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdecimal():
        lifetime = float(lifetime[:9])
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or not lifetime > 0:
        lifetime = DEFAULT_LIFETIME
    return IssuedToken(value, min(float(lifetime), MAX_LIFETIME), grant.renewal_margin)


def _jwt_lifetime(token: str) -> float | None:
    """From issue to end, seconds, as the claims say. The one who asked for a token has no need to check its signature."""
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return float(claims["exp"] - claims["iat"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def oauth2_token_request(connection: Connection) -> TokenRequest:
    """RFC 6749, 4.4. Raises ValueError, as all here do, with a message that quotes no secret."""
    extra = connection.extra
    url = _text(extra, "token_url")
    if url is None:
        raise ValueError("auth_type oauth2_client_credentials needs the extra's token_url")
    client_id, secret = _client(connection)
    fields = [("grant_type", "client_credentials")]
    fields += [(name, value) for name in ("scope", "audience") if (value := _text(extra, name))]
    method = _text(extra, "token_endpoint_auth_method") or "client_secret_basic"
    if method not in {"client_secret_basic", "client_secret_post"}:
        raise ValueError("token_endpoint_auth_method is client_secret_basic or client_secret_post")
    if method == "client_secret_post":
        return _grant(connection, url, [*fields, ("client_id", client_id), ("client_secret", secret)])
    return _grant(connection, url, fields, login=(quote_plus(client_id), quote_plus(secret)))


def airflow_token_request(connection: Connection) -> TokenRequest:
    """The token of Airflow's own `/auth/token`, below the path of its base URL. It lasts a day and has no refresh token; a new one is asked
    for at 80 % of its life.
    """
    url = _text(connection.extra, "token_url") or "/auth/token"
    fields = [("username", connection.login or ""), ("password", connection.password or "")]
    return _grant(connection, url, fields, as_json=True, is_jwt=True, renewal_margin=inf)


def airbyte_token_request(connection: Connection) -> TokenRequest:
    """Airbyte's application token, as its public API hands it out."""
    client_id, secret = _client(connection)
    base = connection.base_url().rstrip("/")
    below = "applications/token" if base.endswith("/v1") else "api/public/v1/applications/token"
    url = _text(connection.extra, "token_url") or f"/{below}"
    fields = [
        ("client_id", client_id),
        ("client_secret", secret),
        ("grant-type", "client_credentials"),
    ]
    return _grant(connection, url, fields, as_json=True)


def google_token_request(connection: Connection) -> TokenRequest:
    """A JWT grant of a service account: an access token, or with `target_audience` an ID token, as an identity-aware proxy wants it."""
    extra = connection.extra
    key = _key_file(extra.get("keyfile_dict"))
    issuer, private_key = _text(key, "client_email"), _text(key, "private_key")
    if issuer is None or private_key is None:
        raise ValueError(
            "auth_type google_service_account needs the extra's keyfile_dict, a service account's key"
        )
    url = _text(key, "token_uri") or _GOOGLE_TOKEN_URI
    audience = _text(extra, "target_audience")
    scope = (_text(extra, "scope") or _CLOUD_PLATFORM).replace(",", " ")
    claims = (("target_audience", audience),) if audience else (("scope", scope),)
    return _grant(
        connection,
        url,
        [("grant_type", _JWT_BEARER)],
        assertion=JwtAssertion(issuer, url, private_key, _text(key, "private_key_id"), claims),
        answer="id_token" if audience else "access_token",
    )


def _grant(connection: Connection, url: str, fields: list[tuple[str, str]], **more: Any) -> TokenRequest:
    """The grant at `url`, absolute or below the connection's; certificates are checked unless it is the connection's own origin that
    goes without.
    """
    verify = True
    if "://" in url:
        named = parse_origin(url)
        verify = (
            connection.verifies_tls() or not connection.host or named != parse_origin(connection.base_url())
        )
    else:
        url = join_url(connection.base_url(), url)
        verify = connection.verifies_tls()
    return TokenRequest(url, tuple(fields), verify_tls=verify, **more)


def _client(connection: Connection) -> tuple[str, str]:
    client_id = _text(connection.extra, "client_id") or connection.login
    secret = _text(connection.extra, "client_secret") or connection.password
    if not client_id or not secret:
        raise ValueError("a client_id and a client_secret are needed, in the extra or as login and password")
    return client_id, secret


def _key_file(value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    return value if isinstance(value, Mapping) else {}


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} is no string")  # noqa: TRY004 - bad data, not a bad call
    return value
