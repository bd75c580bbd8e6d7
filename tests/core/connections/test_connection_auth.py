"""How a connection's credentials are sent: headers, tokens and signatures."""

from typing import Any

import pytest

from waitd.core.connections.auth import build_credentials
from waitd.core.connections.azure_signature import parse_shared_key
from waitd.core.connections.connection import Connection
from waitd.core.connections.token_requests import TokenRequest


@pytest.mark.parametrize(
    ("login", "password", "extra", "headers"),
    [
        (None, None, {}, {}),
        ("u", "p", {}, {"Authorization": "Basic dTpw"}),
        ("u", None, {}, {"Authorization": "Basic dTo="}),
        ("ü", "€", {}, {"Authorization": "Basic w7w64oKs"}),
        ("u", "p", {"auth_type": "none"}, {}),
        (None, "t", {"auth_type": "bearer"}, {"Authorization": "Bearer t"}),
        ("u", "p", {"auth_type": "Bearer", "token": "t"}, {"Authorization": "Bearer t"}),
        (None, "k", {"auth_type": "header", "header_name": "X-Api-Key"}, {"X-Api-Key": "k"}),
        (None, None, {"headers": {"X-A": "1"}}, {"X-A": "1"}),
        (None, None, {"Authorization": "Token t", "X-Key": "k", "timeout": "3"}, {"Authorization": "Token t", "X-Key": "k"}),
        (None, None, {"webhook_secret": "s", "verify": "false"}, {}),
    ],
)  # fmt: skip
def test_the_auth_type_decides_the_headers(
    login: str | None, password: str | None, extra: dict[str, Any], headers: dict[str, str]
) -> None:
    connection = Connection("c", host="h", login=login, password=password, extra=extra)
    assert dict(build_credentials(connection).headers) == headers


@pytest.mark.parametrize(
    ("password", "extra"),
    [
        ("hunter2", {"auth_type": "kerberos"}),
        ("hunter2", {"auth_type": 7}),
        (None, {"auth_type": "bearer"}),
        ("hunter2", {"auth_type": "header"}),
        ("hunter2", {"auth_type": "header", "header_name": "a b"}),
        ("hunter2\r\nX: y", {"auth_type": "bearer"}),
        ("hunter2\ud800", {"auth_type": "bearer"}),
        ("hunter2", {"headers": ["x"]}),
        ("hunter2", {"headers": {"X-A": 1}}),
    ],
)
def test_invalid_credentials_are_refused_and_not_quoted(password: str | None, extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as raised:
        build_credentials(Connection("c", host="h", password=password, extra=extra))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("login", "extra", "account"),
    [
        ("landing", {}, "landing"),
        (None, {}, "acme"),
        ("landing", {"shared_access_key": "b3RoZXI="}, "landing"),
        ("landing", {"tenant_id": ""}, "landing"),
    ],
)
def test_an_azure_storage_account_signs_with_its_key(
    login: str | None, extra: dict[str, Any], account: str
) -> None:
    extra = {"auth_type": "azure_storage", **extra}
    host = "https://acme.blob.core.windows.net"
    key = extra.get("shared_access_key", "a2V5")
    credentials = build_credentials(Connection("c", host=host, login=login, password="a2V5", extra=extra))
    assert credentials.shared_key == parse_shared_key(account, key)
    assert (credentials.headers, credentials.token_request, credentials.signing) == ((), None, None)


def test_azure_storage_with_a_tenant_requests_a_token() -> None:
    extra = {"auth_type": "azure_storage", "tenant_id": "8b1e.example"}
    host = "https://acme.blob.core.windows.net"
    credentials = build_credentials(Connection("c", host=host, login="app", password="hunter2", extra=extra))
    assert credentials.shared_key is None
    assert credentials.token_request == TokenRequest(
        "https://login.microsoftonline.com/8b1e.example/oauth2/v2.0/token",
        (
            ("grant_type", "client_credentials"),
            ("scope", "https://storage.azure.com/.default"),
            ("client_id", "app"),
            ("client_secret", "hunter2"),
        ),
    )


@pytest.mark.parametrize(
    ("password", "extra", "message"),
    [
        (None, {}, "needs the account's key"),
        ("hunter2!", {}, "base64"),
        ("a2V5", {"shared_access_key": 7}, "needs the account's key"),
        ("a2V5", {"sas_token": "sv=hunter2"}, "sas_token and"),
        ("a2V5", {"connection_string": "hunter2"}, "and connection_string are not supported"),
        ("hunter2", {"tenant_id": 7}, "tenant_id"),
        ("hunter2", {"tenant_id": "a/../hunter2"}, "tenant_id"),
    ],
)
def test_invalid_azure_storage_credentials_are_refused(
    password: str | None, extra: dict[str, Any], message: str
) -> None:
    extra = {"auth_type": "azure_storage", **extra}
    with pytest.raises(ValueError, match=message) as raised:
        build_credentials(Connection("c", host="http://h", login="acme", password=password, extra=extra))
    assert "hunter2" not in str(raised.value)


def test_credentials_include_the_signing_and_the_token_header() -> None:
    extra = {
        "auth_type": "aws_sigv4",
        "aws_service": "glue",
        "region_name": "eu-west-1",
        "headers": {"Accept": "x"},
    }
    signed = build_credentials(Connection("c", host="h", login="AKIA", password="s", extra=extra))
    assert signed.signing is not None
    assert (signed.signing.service, signed.signing.region) == ("glue", "eu-west-1")
    assert (signed.headers, signed.token_header) == ((("Accept", "x"),), "Authorization")
    extra = {"auth_type": "airflow", "token_header": "Proxy-Authorization"}
    with_token = build_credentials(Connection("c", host="h", login="u", password="p", extra=extra))
    assert with_token.token_header == "Proxy-Authorization"
    assert with_token.signing is None
    with_headers = build_credentials(
        Connection("c", host="h", password="p", extra={"accept": "a/b", "timeout": "3"})
    )
    assert dict(with_headers.headers) == {"accept": "a/b", "Authorization": "Basic OnA="}
