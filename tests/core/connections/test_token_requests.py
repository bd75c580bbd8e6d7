"""The requests to token endpoints, and how their responses are parsed."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from waitd.core.connections.auth import AUTH_TYPES, Credentials, build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.connections.token_requests import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    JwtAssertion,
    TokenRequest,
    parse_token,
)

KEY = {"client_email": "sa@p.example", "private_key": "PEM", "private_key_id": "k1", "token_uri": "https://t.example/token"}  # fmt: skip


def token_request(**fields: Any) -> TokenRequest:
    request = build_credentials(Connection("c", **{"host": "https://h.example/api", **fields})).token_request
    assert request is not None
    return request


def test_oauth2_uses_basic_authentication_by_default() -> None:
    extra = {
        "auth_type": "oauth2_client_credentials",
        "token_url": "https://idp.example/token",
        "scope": "a b",
        "audience": "x",
    }
    request = token_request(login="id:1", password="s/1", extra=extra)
    assert request == TokenRequest(
        "https://idp.example/token",
        (("grant_type", "client_credentials"), ("scope", "a b"), ("audience", "x")),
        basic_auth=("id%3A1", "s%2F1"),
    )


def test_oauth2_can_send_the_client_in_the_body() -> None:
    extra = {
        "auth_type": "oauth2_client_credentials",
        "token_url": "/token",
        "client_id": "i",
        "client_secret": "s",
        "token_endpoint_auth_method": "client_secret_post",
    }
    assert token_request(login="other", password="other", extra=extra) == TokenRequest(
        "https://h.example/api/token",
        (("grant_type", "client_credentials"), ("client_id", "i"), ("client_secret", "s")),
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://h.example", "https://h.example/api/public/v1/applications/token"),
        ("https://h.example/api/public/v1/", "https://h.example/api/public/v1/applications/token"),
        ("https://api.airbyte.com/v1", "https://api.airbyte.com/v1/applications/token"),
    ],
)
def test_airbyte_has_its_own_token_endpoint(host: str, url: str) -> None:
    assert token_request(host=host, login="i", password="s", extra={"auth_type": "airbyte"}) == TokenRequest(
        url,
        (("client_id", "i"), ("client_secret", "s"), ("grant-type", "client_credentials")),
        as_json=True,
    )


@pytest.mark.parametrize(
    ("host", "extra", "url"),
    [
        ("https://h.example/airflow", {}, "https://h.example/airflow/auth/token"),
        ("https://h.example/airflow/", {}, "https://h.example/airflow/auth/token"),
        ("https://h.example/api", {"token_url": "/sso/token"}, "https://h.example/api/sso/token"),
    ],
)
def test_airflows_token_endpoint_is_below_its_base_url(host: str, extra: dict[str, str], url: str) -> None:
    assert token_request(
        conn_type="airflow", host=host, login="u", password="p", extra=extra
    ) == TokenRequest(
        url,
        (("username", "u"), ("password", "p")),
        as_json=True,
        is_jwt=True,
        renewal_margin=inf,
    )


@pytest.mark.parametrize(
    ("claims", "renew_after"),
    [({"iat": 1_000, "exp": 87_400}, 69_120.0), ({"iat": 1_000, "exp": 1_010}, 8.0), ({"exp": 87_400}, 240.0), ([], 240.0),
     ({"iat": 5, "exp": 5}, 240.0), ({"iat": "x", "exp": 5}, 240.0)],
)  # fmt: skip
def test_airflows_token_is_renewed_at_four_fifths_of_its_own_lifetime(
    claims: Any, renew_after: float
) -> None:
    request = token_request(conn_type="airflow", login="u", password="p")
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert parse_token(request, {"access_token": f"e30.{payload}.c2ln"}).renew_after == renew_after


@pytest.mark.parametrize("value", ["t", "a.b", "a.!.c", "a.e30"])
def test_an_airflow_token_that_is_not_a_jwt_has_the_default_lifetime(value: str) -> None:
    request = token_request(conn_type="airflow", login="u", password="p")
    assert parse_token(request, {"access_token": value, "expires_in": 9}).lifetime == DEFAULT_LIFETIME


def test_google_issues_an_access_token_or_an_id_token() -> None:
    extra = {"auth_type": "google_service_account", "keyfile_dict": KEY, "scope": "one,two"}
    assertion = JwtAssertion("sa@p.example", "https://t.example/token", "PEM", "k1", (("scope", "one two"),))
    access = TokenRequest(
        "https://t.example/token",
        (("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),),
        assertion=assertion,
    )
    assert token_request(extra=extra) == access
    assert assertion.payload(1000.5) == {
        "iss": "sa@p.example",
        "aud": "https://t.example/token",
        "scope": "one two",
        "iat": 1000,
        "exp": 4600,
    }
    extra |= {"keyfile_dict": json.dumps(KEY), "target_audience": "client.apps"}
    identity = replace(assertion, claims=(("target_audience", "client.apps"),))
    assert token_request(extra=extra) == replace(access, assertion=identity, token_field="id_token")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"auth_type": "oauth2_client_credentials"}, "token_url"),
        ({"auth_type": "oauth2_client_credentials", "token_url": 7}, "token_url"),
        ({"auth_type": "oauth2_client_credentials", "token_url": "//evil"}, "//"),
        ({"auth_type": "oauth2_client_credentials", "token_url": "http://u:planted@h"}, "conn_id"),
        ({"auth_type": "oauth2_client_credentials", "token_url": "/t", "token_endpoint_auth_method": "planted"}, "client_secret_post"),
        ({"auth_type": "google_service_account"}, "keyfile_dict"),
        ({"auth_type": "google_service_account", "keyfile_dict": "{planted"}, "keyfile_dict"),
        ({"auth_type": "google_service_account", "keyfile_dict": {**KEY, "token_uri": "ftp://planted"}}, "http"),
        ({"auth_type": "aws_sigv4"}, "aws_service"),
        ({"auth_type": "aws_sigv4", "aws_service": "glue"}, "region_name"),
        ({"auth_type": "aws_sigv4", "aws_service": "glue/../x", "region_name": "eu-west-1"}, "aws_service"),
        ({"auth_type": "aws_sigv4", "aws_service": "glue", "region_name": "eu-west-1.evil.example/"}, "region"),
        ({"auth_type": "bearer", "token_header": "a b"}, "header name"),
    ],
)  # fmt: skip
def test_an_invalid_connection_is_refused_without_quoting_a_secret(
    extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        build_credentials(Connection("c", host="h", login="planted", password="planted", extra=extra))
    assert "planted" not in str(raised.value)


def test_a_client_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="client_secret"):
        token_request(login="i", extra={"auth_type": "airbyte"})


@pytest.mark.parametrize(
    ("response", "lifetime"),
    [
        ({"access_token": "t", "expires_in": 3600}, 3600.0), ({"access_token": "t", "expires_in": "60"}, 60.0),
        ({"access_token": "t"}, 300.0), ({"access_token": "t", "expires_in": -1}, 300.0), ({"access_token": "t", "expires_in": True}, 300.0),
        ({"access_token": "t", "expires_in": 1e300}, MAX_LIFETIME), ({"access_token": "t", "expires_in": float("nan")}, 300.0),
    ],
)  # fmt: skip
def test_a_token_has_the_lifetime_that_its_endpoint_states(response: dict[str, Any], lifetime: float) -> None:
    token = parse_token(TokenRequest("https://h", ()), response)
    assert (token.value, token.lifetime) == ("t", lifetime)
    assert 0 < token.renew_after < lifetime


@pytest.mark.parametrize(
    "response",
    [None, [], "planted", {}, {"access_token": 7}, {"access_token": ""}, {"access_token": "planted\r\nX: y"}, {"access_token": "planted planted"}, {"id_token": "planted"}, {"access_token": "plånted"}],
)  # fmt: skip
def test_a_response_without_a_token_is_refused_and_not_quoted(response: Any) -> None:
    with pytest.raises(ValueError, match="access_token") as raised:
        parse_token(TokenRequest("https://h", ()), response)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize("kind", AUTH_TYPES)
def test_the_repr_of_credentials_hides_their_secrets(kind: str) -> None:
    extra = {
        "auth_type": kind, "token": "planted", "header_name": "X-Key", "token_url": "/t", "client_secret": "planted",
        "keyfile_dict": {**KEY, "private_key": "planted"}, "aws_service": "glue", "region_name": "eu-west-1",
        "shared_access_key": "cGxhbnRlZA==",
    }  # fmt: skip
    connection = Connection("c", host="h", login="login", password="planted", extra=extra)
    credentials = build_credentials(connection)
    assert isinstance(credentials, Credentials)
    assert "planted" not in repr(credentials) + str(credentials)
    assert "planted" not in repr(credentials.token_request) + repr(credentials.signing) + repr(
        credentials.shared_key
    )


@pytest.mark.parametrize(
    ("auth_type", "host", "token_url", "verifies"),
    [
        ("oauth2_client_credentials", "https://h.example", "https://h.example/token", False),
        ("oauth2_client_credentials", "https://h.example", "https://idp.example/token", True),
        ("oauth2_client_credentials", "https://h.example", "/token", False),
        ("oauth2_client_credentials", None, "https://h.example/token", True),
        ("airbyte", "https://h.example", None, False),
        ("airbyte", "https://h.example", "https://idp.example/token", True),
    ],
)
def test_verify_false_applies_to_the_connections_origin_only(
    auth_type: str, host: str | None, token_url: str | None, verifies: bool
) -> None:
    extra = {"auth_type": auth_type, "token_url": token_url, "verify": False}
    assert token_request(host=host, login="i", password="s", extra=extra).tls.verify is verifies
    extra["verify"] = True
    assert token_request(host=host or "h", login="i", password="s", extra=extra).tls.verify


@pytest.mark.parametrize("missing", ["client_email", "private_key"])
def test_an_incomplete_google_key_is_refused(missing: str) -> None:
    key = {name: value for name, value in KEY.items() if name != missing}
    with pytest.raises(ValueError, match="keyfile_dict"):
        token_request(extra={"auth_type": "google_service_account", "keyfile_dict": key})
