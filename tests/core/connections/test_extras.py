"""Every extra of a connection is used, refused by its name, or ignored with a reason."""

from typing import Any

import pytest

from waitd.core.connections.auth import AUTH_TYPES, build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.connections.extras import AUTH_EXTRAS, RULES, check_extras, ignored_extras


def connection(conn_type: str = "http", **extra: Any) -> Connection:
    return Connection("c", conn_type, host="https://h", extra=extra)


@pytest.mark.parametrize(
    ("extra", "headers"),
    [
        ({"apikey": "K"}, {"apikey": "K"}),
        ({"Cookie": "a=b", "tenant": "x"}, {"Cookie": "a=b", "tenant": "x"}),
        ({"token": "K"}, {"token": "K"}),
        ({"apikey": None}, {}),
        ({"verify": False, "cert": "/c", "max_redirects": 3, "timeout": 5, "stream": True, "trust_env": False}, {}),
        ({"auth_type": "bearer", "token": "T", "apikey": "K"}, {"apikey": "K", "Authorization": "Bearer T"}),
    ],
)  # fmt: skip
def test_every_other_extra_is_a_header_as_in_airflows_http_hook(
    extra: dict[str, Any], headers: dict[str, str]
) -> None:
    assert dict(build_credentials(connection(**extra)).headers) == headers


@pytest.mark.parametrize("conn_type", sorted(name for name in RULES if "auth_type" in RULES[name].used))
def test_extras_of_a_vendors_hook_are_no_headers(conn_type: str) -> None:
    rules = RULES[conn_type]
    extra = dict.fromkeys([*rules.ignored, "unheard_of"], "7")
    extra |= {"auth_type": "bearer", "token": "T"}
    assert dict(build_credentials(connection(conn_type, **extra)).headers) == {"Authorization": "Bearer T"}
    assert ignored_extras(connection(conn_type, **extra)).keys() == {*rules.ignored, "unheard_of"}


@pytest.mark.parametrize(
    ("conn_type", "extra", "name"),
    [
        ("http", {"srv_lookup": True}, "srv_lookup"),
        ("http", {"check_response": "planted"}, "check_response"),
        ("http", {"timeout": "planted"}, "timeout"),
        ("http", {"proxies": {"https": "socks5://u:planted@proxy:3128"}}, "proxies: https"),
        ("http", {"proxy": "http://u:planted@"}, "proxy: all"),
        ("http", {"max_redirects": "planted"}, "max_redirects"),
        ("http", {"verify": 7}, "verify"),
        ("http", {"token": "x", "planted": 7}, "field 2 of the extra"),
        ("github", {"token": "x", "a-planted": {}}, "field 2 of the extra"),
        ("http", {"planted": "\0"}, "value of a header"),
        ("http", {"headers": {"planted": "\0"}}, "value of a header"),
        ("http", {"headers": {7: "planted"}}, "headers"),
        ("http", {"token_header": "planted header"}, "header name"),
        ("http", {"proxies": {"https://u:planted@proxy": 7}}, "proxies: https"),
        ("http", {"proxies": {"https://u:planted@proxy": "planted proxy"}}, "proxies: https"),
        ("http", {"proxies": {"planted": 7}}, "proxies: an entry"),
        ("databricks", {"token": "planted", "host": "h"}, "host"),
        ("databricks", {"service_principal_oauth": True}, "service_principal_oauth"),
        ("google_cloud_platform", {"impersonation_chain": "planted"}, "impersonation_chain"),
        ("snowflake", {"private_key_content": "planted"}, "private_key_content"),
        ("wasb", {"sas_token": "planted"}, "sas_token"),
        ("kubernetes", {"in_cluster": True}, "in_cluster"),
        ("azure", {"cloud_environment": "AzureChinaCloud"}, "cloud_environment"),
        ("google_cloud_platform", {"quota_project_id": "planted"}, "quota_project_id"),
        ("postgres", {"iam": True}, "iam"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(conn_type: str, extra: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        build_credentials(connection(conn_type, **extra))
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    ("conn_type", "extra"),
    [
        (
            "http",
            {"srv_lookup": False, "check_response": False, "timeout": "2.5", "proxies": {}, "stream": True},
        ),
        ("azure", {"cloud_environment": "AzurePublicCloud"}),
        ("kubernetes", {"in_cluster": False, "kube_config": ""}),
        ("databricks", {"service_principal_oauth": True, "auth_type": "bearer", "token": "T"}),
    ],
)
def test_what_says_the_default_is_not_refused(conn_type: str, extra: dict[str, Any]) -> None:
    check_extras(connection(conn_type, **extra))


def test_ignored_extras_have_a_reason() -> None:
    ignored = ignored_extras(connection("aws", config_kwargs={"retries": {}, "s3": {}}, colour="blue"))
    assert ignored.keys() == {"config_kwargs.retries", "colour"}
    assert ignored_extras(connection("http", stream=True, apikey="K")).keys() == {"stream"}
    other_type = connection("http", auth_type="Basic", client_secret="s")
    assert dict(ignored_extras(other_type)) == {"client_secret": "auth_type basic does not use it"}
    assert not ignored_extras(connection("http", client_secret="s")), "it is a header"
    assert "planted" not in str(ignored_extras(connection("http", auth_type=["planted"], client_secret="s")))


def test_each_auth_type_says_what_it_reads() -> None:
    assert AUTH_EXTRAS.keys() == AUTH_TYPES.keys()
