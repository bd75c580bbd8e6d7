"""What token endpoints are asked, and how their answers are read."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from waitd.core.connections.auth import AUTH_TYPES, Credentials, build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.connections.token_requests import DEFAULT_LIFETIME, MAX_LIFETIME, TokenRequest, parse_token

KEY = {"client_email": "sa@p.example", "private_key": "PEM", "private_key_id": "k1", "token_uri": "https://t.example/token"}  # fmt: skip


def grant_of(**fields: Any) -> TokenRequest:
    grant = build_credentials(Connection("c", **{"host": "https://h.example/api", **fields})).token_request
    assert grant is not None
    return grant


def test_oauth2_asks_with_basic_authentication_by_default() -> None:
    extra = {
        "auth_type": "oauth2_client_credentials",
        "token_url": "https://idp.example/token",
        "scope": "a b",
        "audience": "x",
    }
    grant = grant_of(login="id:1", password="s/1", extra=extra)
    assert grant == TokenRequest(
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
    grant = grant_of(login="other", password="other", extra=extra)
    assert grant.url == "https://h.example/api/token"
    assert dict(grant.fields) == {"grant_type": "client_credentials", "client_id": "i", "client_secret": "s"}
    assert grant.basic_auth is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://h.example", "https://h.example/api/public/v1/applications/token"),
        ("https://h.example/api/public/v1/", "https://h.example/api/public/v1/applications/token"),
        ("https://api.airbyte.com/v1", "https://api.airbyte.com/v1/applications/token"),
    ],
)
def test_airbyte_has_its_own_token_endpoint(host: str, url: str) -> None:
    grant = grant_of(host=host, login="i", password="s", extra={"auth_type": "airbyte"})
    assert (grant.url, grant.as_json) == (url, True)
    assert dict(grant.fields)["client_secret"] == "s"


@pytest.mark.parametrize("host", ["https://h.example/airflow", "https://h.example/airflow/"])
def test_airflows_token_endpoint_is_below_its_base_url(host: str) -> None:
    grant = grant_of(conn_type="airflow", host=host, login="u", password="p")
    assert (grant.url, grant.as_json) == ("https://h.example/airflow/auth/token", True)
    assert dict(grant.fields) == {"username": "u", "password": "p"}


@pytest.mark.parametrize(
    ("claims", "renew_after"),
    [({"iat": 1_000, "exp": 87_400}, 69_120.0), ({"iat": 1_000, "exp": 1_010}, 8.0), ({"exp": 87_400}, 240.0), ([], 240.0),
     ({"iat": 5, "exp": 5}, 240.0), ({"iat": "x", "exp": 5}, 240.0)],
)  # fmt: skip
def test_airflows_token_says_itself_how_long_it_holds_and_is_renewed_at_four_fifths(
    claims: Any, renew_after: float
) -> None:
    grant = grant_of(conn_type="airflow", login="u", password="p")
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert parse_token(grant, {"access_token": f"e30.{payload}.c2ln"}).renew_after == renew_after


@pytest.mark.parametrize("value", ["t", "a.b", "a.!.c", "a.e30"])
def test_an_airflow_token_that_is_no_jwt_has_the_default_lifetime(value: str) -> None:
    grant = grant_of(conn_type="airflow", login="u", password="p")
    assert parse_token(grant, {"access_token": value, "expires_in": 9}).lifetime == DEFAULT_LIFETIME


def test_google_gives_an_access_token_or_an_id_token() -> None:
    extra = {"auth_type": "google_service_account", "keyfile_dict": KEY, "scope": "one,two"}
    access = grant_of(extra=extra)
    assert access.assertion is not None
    assert access.token_field == "access_token"
    assert access.assertion.payload(1000.5) == {
        "iss": "sa@p.example",
        "aud": "https://t.example/token",
        "scope": "one two",
        "iat": 1000,
        "exp": 4600,
    }
    identity = grant_of(extra={**extra, "keyfile_dict": json.dumps(KEY), "target_audience": "client.apps"})
    assert identity.assertion is not None
    assert identity.token_field == "id_token"
    assert identity.assertion.payload(0)["target_audience"] == "client.apps"
    assert "scope" not in identity.assertion.payload(0)


def test_a_token_endpoints_certificate_is_checked_unless_it_is_the_connections_own() -> None:
    extra = {"auth_type": "airbyte", "verify": False}
    assert not grant_of(login="i", password="s", extra=extra).verify_tls
    elsewhere = {**extra, "token_url": "https://idp.example/token"}
    assert grant_of(login="i", password="s", extra=elsewhere).verify_tls


@pytest.mark.parametrize(
    ("extra", "complaint"),
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
    extra: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as raised:
        build_credentials(Connection("c", host="h", login="planted", password="planted", extra=extra))
    assert "planted" not in str(raised.value)


def test_a_client_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="client_secret"):
        grant_of(login="i", extra={"auth_type": "airbyte"})


@pytest.mark.parametrize(
    ("answer", "lifetime"),
    [
        ({"access_token": "t", "expires_in": 3600}, 3600.0), ({"access_token": "t", "expires_in": "60"}, 60.0),
        ({"access_token": "t"}, 300.0), ({"access_token": "t", "expires_in": -1}, 300.0), ({"access_token": "t", "expires_in": True}, 300.0),
        ({"access_token": "t", "expires_in": 1e300}, MAX_LIFETIME), ({"access_token": "t", "expires_in": float("nan")}, 300.0),
    ],
)  # fmt: skip
def test_a_token_holds_as_long_as_its_endpoint_says(answer: dict[str, Any], lifetime: float) -> None:
    token = parse_token(TokenRequest("https://h", ()), answer)
    assert (token.value, token.lifetime) == ("t", lifetime)
    assert 0 < token.renew_after < lifetime


@pytest.mark.parametrize(
    "answer",
    [None, [], "planted", {}, {"access_token": 7}, {"access_token": ""}, {"access_token": "planted\r\nX: y"}, {"access_token": "planted planted"}, {"id_token": "planted"}, {"access_token": "plånted"}],
)  # fmt: skip
def test_an_answer_without_a_token_is_none(answer: Any) -> None:
    with pytest.raises(ValueError, match="access_token") as raised:
        parse_token(TokenRequest("https://h", ()), answer)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize("kind", AUTH_TYPES)
def test_nothing_made_of_a_connection_shows_its_secrets(kind: str) -> None:
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
    ("host", "token_url", "verifies"),
    [
        ("https://h.example", "https://h.example/token", False),
        ("https://h.example", "https://idp.example/token", True),
        ("https://h.example", "/token", False),
        (None, "https://h.example/token", True),
    ],
)
def test_verify_false_reaches_no_further_than_the_connections_origin(
    host: str | None, token_url: str, verifies: bool
) -> None:
    extra = {"auth_type": "oauth2_client_credentials", "token_url": token_url, "verify": False}
    assert grant_of(host=host, login="i", password="s", extra=extra).verify_tls is verifies
    assert (
        grant_of(host=host or "h", login="i", password="s", extra={**extra, "verify": True}).verify_tls
        is True
    )


def test_the_exact_token_requests_to_airbyte_airflow_and_google() -> None:
    airbyte = grant_of(login="i", password="s", extra={"auth_type": "airbyte"})
    assert airbyte.fields == (
        ("client_id", "i"),
        ("client_secret", "s"),
        ("grant-type", "client_credentials"),
    )
    airflow = grant_of(login="u", password="p", extra={"auth_type": "airflow", "token_url": "/sso/token"})
    assert airflow.url == "https://h.example/api/sso/token"
    assert airflow.fields == (("username", "u"), ("password", "p"))
    google = grant_of(extra={"auth_type": "google_service_account", "keyfile_dict": KEY})
    assert google.fields == (("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),)
    assert google.assertion is not None
    assert (google.assertion.private_key, google.assertion.key_id) == ("PEM", "k1")


@pytest.mark.parametrize("missing", ["client_email", "private_key"])
def test_a_google_key_that_lacks_a_part_is_refused(missing: str) -> None:
    key = {name: value for name, value in KEY.items() if name != missing}
    with pytest.raises(ValueError, match="keyfile_dict"):
        grant_of(extra={"auth_type": "google_service_account", "keyfile_dict": key})
