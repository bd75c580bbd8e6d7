"""The requests that fetch tokens, and how their responses are read.

Each auth_type that needs a token, its token endpoint, and its parameters:

- `oauth2_client_credentials`: extra `token_url`. Extra `client_id` and `client_secret` (else login
  and password), `scope`, `audience`, and `token_endpoint_auth_method`: `client_secret_basic`
  (default) or `client_secret_post`.
- `airflow`: extra `token_url`, else `/auth/token` below the connection's URL. Login and password.
- `airbyte`: extra `token_url`, else Airbyte's own below the connection's URL. `client_id` and
  `client_secret` as above.
- `google_service_account`: `token_uri` of the key. Extra `keyfile_dict` (the key file's JSON as an
  object or text), and `scope`, or `target_audience` for an ID token.

A `token_url` may be a path below the connection's URL.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import quote_plus

from waitd.core.connections.connection import Connection, join_url, parse_origin, text_field
from waitd.core.connections.http_options import (
    DEFAULT_TLS,
    ClientTls,
    parse_client_tls,
    parse_connection_proxies,
)
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies

#: The lifetime of a token, in seconds, if its endpoint does not state it.
DEFAULT_LIFETIME = 300.0
#: How many seconds before its expiry a token is renewed by default.
RENEWAL_MARGIN = 60.0
#: Longer lifetimes are capped to this many seconds.
MAX_LIFETIME = 7 * 86_400.0
#: The lifetime of a JWT assertion, in seconds.
_ASSERTION_LIFETIME = 3600
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a secret


@dataclass(frozen=True, slots=True)
class JwtAssertion:
    """A JWT that is signed with RS256 and sent in the field `assertion` (RFC 7523).

    `claims` are its claims besides issuer, audience and times.
    """

    issuer: str
    audience: str
    private_key: str = field(repr=False)
    key_id: str | None
    claims: tuple[tuple[str, str], ...]

    def payload(self, now: float) -> dict[str, Any]:
        """All claims of an assertion issued at `now` (Unix seconds)."""
        return {
            **dict(self.claims),
            "iss": self.issuer,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(now) + _ASSERTION_LIFETIME,
        }


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token endpoint. Equal requests share one token.

    Attributes:
        url: the endpoint; the method is POST.
        fields: the fields of the body, which is a form or, with `as_json`, a JSON object.
        basic_auth: name and password for HTTP Basic, or None.
        assertion: a JWT to sign and send in the field `assertion`, or None.
        token_field: the field of the response that holds the token.
        tls: how the endpoint's certificate is verified.
        proxies: those of the connection.
        is_jwt: the token is a JWT whose claims state its lifetime.
        renewal_margin: the token is renewed when a fifth of its lifetime is left, but no earlier
            than this many seconds before its expiry.
    """

    url: str
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    as_json: bool = False
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    assertion: JwtAssertion | None = None
    token_field: str = "access_token"  # noqa: S105 - a name, not a secret
    tls: ClientTls = DEFAULT_TLS
    proxies: Proxies = DEFAULT_PROXIES
    is_jwt: bool = False
    renewal_margin: float = RENEWAL_MARGIN


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and its lifetime in seconds."""

    value: str = field(repr=False)
    lifetime: float
    renewal_margin: float = RENEWAL_MARGIN

    @property
    def renew_after(self) -> float:
        """Seconds after which a new token is fetched."""
        return self.lifetime - min(self.renewal_margin, self.lifetime / 5)


def parse_token(request: TokenRequest, response: object) -> IssuedToken:
    """The token in the decoded response of a token endpoint.

    Raises:
        ValueError: there is no token that can be sent. The message quotes nothing of the response.
    """
    fields = response if isinstance(response, Mapping) else {}
    value = fields.get(request.token_field)
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isprintable()
        or " " in value
        or not value
    ):
        raise ValueError(f"the token endpoint's answer has no {request.token_field}")
    lifetime = _jwt_lifetime(value) if request.is_jwt else fields.get("expires_in")
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdecimal():
        lifetime = float(lifetime[:9])
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or not lifetime > 0:
        lifetime = DEFAULT_LIFETIME
    return IssuedToken(value, min(float(lifetime), MAX_LIFETIME), request.renewal_margin)


def _jwt_lifetime(token: str) -> float | None:
    """Seconds from `iat` to `exp`. The issuer sent the token, so its signature is not verified."""
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return float(claims["exp"] - claims["iat"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def oauth2_token_request(connection: Connection) -> TokenRequest:
    """The client credentials grant (RFC 6749, section 4.4).

    Raises:
        ValueError: the connection lacks a field or a field is invalid. The message quotes no
            secret. The other functions here raise it, too.
    """
    extra = connection.extra
    url = text_field(extra, "token_url")
    if url is None:
        raise ValueError("auth_type oauth2_client_credentials needs the extra's token_url")
    client_id, secret = _client(connection)
    fields = [("grant_type", "client_credentials")]
    fields += [(name, value) for name in ("scope", "audience") if (value := text_field(extra, name))]
    method = text_field(extra, "token_endpoint_auth_method") or "client_secret_basic"
    if method not in {"client_secret_basic", "client_secret_post"}:
        raise ValueError("token_endpoint_auth_method must be client_secret_basic or client_secret_post")
    if method == "client_secret_post":
        return _request(connection, url, [*fields, ("client_id", client_id), ("client_secret", secret)])
    return _request(connection, url, fields, basic_auth=(quote_plus(client_id), quote_plus(secret)))


def airflow_token_request(connection: Connection) -> TokenRequest:
    """Airflow's `/auth/token`, below the path of its base URL.

    The token lasts a day and has no refresh token; a new one is fetched at 80 % of its lifetime.
    """
    url = text_field(connection.extra, "token_url") or "/auth/token"
    fields = [("username", connection.login or ""), ("password", connection.password or "")]
    return _request(connection, url, fields, as_json=True, is_jwt=True, renewal_margin=inf)


def airbyte_token_request(connection: Connection) -> TokenRequest:
    """The application token of Airbyte's public API."""
    client_id, secret = _client(connection)
    base = connection.base_url().rstrip("/")
    below = "applications/token" if base.endswith("/v1") else "api/public/v1/applications/token"
    url = text_field(connection.extra, "token_url") or f"/{below}"
    fields = [
        ("client_id", client_id),
        ("client_secret", secret),
        ("grant-type", "client_credentials"),
    ]
    return _request(connection, url, fields, as_json=True)


def google_token_request(connection: Connection) -> TokenRequest:
    """The JWT bearer grant of a Google service account (RFC 7523).

    It gives an access token or, with `target_audience`, an ID token for an identity-aware proxy.
    """
    extra = connection.extra
    key = _key_file(extra.get("keyfile_dict"))
    issuer, private_key = text_field(key, "client_email"), text_field(key, "private_key")
    if issuer is None or private_key is None:
        raise ValueError(
            "auth_type google_service_account needs the extra's keyfile_dict, the key of a service account"
        )
    url = text_field(key, "token_uri") or _GOOGLE_TOKEN_URI
    audience = text_field(extra, "target_audience")
    scope = (text_field(extra, "scope") or _CLOUD_PLATFORM).replace(",", " ")
    claims = (("target_audience", audience),) if audience else (("scope", scope),)
    return _request(
        connection,
        url,
        [("grant_type", _JWT_BEARER)],
        assertion=JwtAssertion(issuer, url, private_key, text_field(key, "private_key_id"), claims),
        token_field="id_token" if audience else "access_token",
    )


def _request(connection: Connection, url: str, fields: list[tuple[str, str]], **more: Any) -> TokenRequest:
    """A request to `url`, which is absolute or below the connection's URL.

    The connection's `verify` and `cert` apply only if the endpoint has the connection's own origin.
    """
    tls = parse_client_tls(connection.extra)
    if "://" not in url:
        url = join_url(connection.base_url(), url)
    else:
        origin = parse_origin(url)
        if not connection.host or origin != parse_origin(connection.base_url()):
            tls = DEFAULT_TLS
    proxies = parse_connection_proxies(connection.extra)
    return TokenRequest(url, tuple(fields), tls=tls, proxies=proxies, **more)


def _client(connection: Connection) -> tuple[str, str]:
    client_id = text_field(connection.extra, "client_id") or connection.login
    secret = text_field(connection.extra, "client_secret") or connection.password
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
