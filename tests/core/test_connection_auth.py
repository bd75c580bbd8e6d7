"""How credentials become headers."""

from typing import Any

import pytest

from waitd.core.connection import Connection
from waitd.core.connection_auth import http_headers


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
def test_credentials_are_written_as_the_connection_says(
    login: str | None, password: str | None, extra: dict[str, Any], headers: dict[str, str]
) -> None:
    connection = Connection("c", host="h", login=login, password=password, extra=extra)
    assert dict(http_headers(connection)) == headers


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
def test_what_cannot_be_sent_is_refused_without_quoting_the_secret(
    password: str | None, extra: dict[str, Any]
) -> None:
    with pytest.raises(ValueError) as caught:
        http_headers(Connection("c", host="h", password=password, extra=extra))
    assert "hunter2" not in str(caught.value)
