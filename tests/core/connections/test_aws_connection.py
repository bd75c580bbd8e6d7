"""How an Airflow connection of type `aws` is read."""

import re
from typing import Any

import pytest

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import (
    AssumedRole,
    AwsConnection,
    AwsKeySource,
    parse_aws_connection,
)
from waitd.core.connections.connection import Connection
from waitd.core.connections.http_options import ClientTls


def parsed(login: str | None = None, password: str | None = None, **extra: Any) -> AwsConnection:
    return parse_aws_connection(Connection("aws", "aws", login=login, password=password, extra=extra))


def test_an_empty_connection_means_the_environment() -> None:
    assert parsed() == AwsConnection(AwsKeySource(), None, None, "auto", ClientTls())


def test_login_and_password_take_precedence_over_the_extra() -> None:
    connection = parsed(
        "AKIA", "s", aws_session_token="t", aws_access_key_id="no", aws_secret_access_key="no"
    )
    assert connection.keys == AwsKeySource(AwsKeys("AKIA", "s", "t"))


def test_the_extra_may_hold_the_key() -> None:
    connection = parsed(aws_access_key_id="AKIA", aws_secret_access_key="s")
    assert connection.keys == AwsKeySource(AwsKeys("AKIA", "s"))


def test_the_endpoint_of_s3_takes_precedence_over_the_common_one() -> None:
    special = {"s3": {"endpoint_url": "http://Minio:9000/"}}
    assert parsed(endpoint_url="https://all.example", service_config=special).endpoint == "http://minio:9000"
    assert parsed(endpoint_url="https://all.example/base/").endpoint == "https://all.example/base"


def test_region_addressing_style_and_verify_are_read() -> None:
    connection = parsed(
        region_name="eu-west-1", verify="/etc/ca.pem", config_kwargs={"s3": {"addressing_style": "virtual"}}
    )
    assert (connection.region, connection.addressing_style) == ("eu-west-1", "virtual")
    assert connection.tls == ClientTls("/etc/ca.pem")


@pytest.mark.parametrize("verify", [False, "false", "False"])
def test_verify_false_disables_verification(verify: Any) -> None:
    assert parsed(verify=verify).tls == ClientTls(verify=False)


def test_config_kwargs_choose_an_endpoint_and_a_client_certificate() -> None:
    config = {"use_fips_endpoint": True, "use_dualstack_endpoint": True, "region_name": "eu-west-1"}
    connection = parsed(
        config_kwargs=config | {"client_cert": ["/crt", "/key"], "retries": {"mode": "standard"}}
    )
    assert (connection.fips, connection.dual_stack, connection.region) == (True, True, "eu-west-1")
    assert connection.tls == ClientTls(cert="/crt", key="/key")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"proxies": {"https": "socks5://planted"}}, "proxies: https"),
        ({"s3": {"use_accelerate_endpoint": True}}, "config_kwargs.s3.use_accelerate_endpoint"),
        ({"signature_version": "s3"}, "config_kwargs.signature_version"),
        ({"use_fips_endpoint": "planted"}, "config_kwargs.use_fips_endpoint"),
        ({"unheard_of": "planted"}, "config_kwargs.unheard_of"),
    ],
)
def test_what_would_change_requests_and_is_not_used_is_refused_by_name(config: Any, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name)) as refused:
        parsed(config_kwargs=config)
    assert "planted" not in str(refused.value)


def test_an_endpoint_excludes_those_of_aws() -> None:
    with pytest.raises(ValueError, match="exclude endpoint_url"):
        parsed(config_kwargs={"use_fips_endpoint": True}, endpoint_url="http://minio:9000")


def test_session_kwargs_are_read_last() -> None:
    session = {"aws_access_key_id": "OLD", "aws_secret_access_key": "s", "aws_session_token": "t"}
    session |= {"region_name": "eu-west-1", "profile_name": "p"}
    keys = AwsKeySource(AwsKeys("OLD", "s", "t"), "p", None, "eu-west-1")
    assert parsed(session_kwargs=session).keys == keys
    newer = parsed("AKIA", "n", session_kwargs=session, region_name="us-east-1", profile_name="q")
    assert newer.keys == AwsKeySource(AwsKeys("AKIA", "n", "t"), "q", None, "us-east-1")


def test_an_unsigned_connection_has_no_keys() -> None:
    assert parsed("AKIA", "s", config_kwargs={"signature_version": "unsigned"}).keys is None


def test_a_role_is_assumed_with_the_key() -> None:
    connection = parsed("AKIA", "s", role_arn="arn:r", external_id="x", assume_role_kwargs={"DurationSeconds": 900}, region_name="eu-west-1")  # fmt: skip
    role = AssumedRole("arn:r", (("DurationSeconds", 900), ("ExternalId", "x")))
    assert connection.keys == AwsKeySource(AwsKeys("AKIA", "s"), None, role, "eu-west-1")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"region_name": "eu west"}, "region_name"),
        ({"region_name": "x.evil.example"}, "region_name"),
        ({"region_name": 3}, "must be a string"),
        ({"endpoint_url": "ftp://x"}, "endpoint_url"),
        ({"endpoint_url": "http://user:pass@x"}, "endpoint_url"),
        ({"service_config": "x"}, "must be an object"),
        ({"config_kwargs": {"s3": {"addressing_style": "odd"}}}, "addressing_style"),
        ({"role_arn": "arn:r", "assume_role_method": "assume_role_with_saml"}, "assume_role"),
        ({"role_arn": "arn:r", "assume_role_kwargs": {"Tags": []}}, "assume_role_kwargs"),
    ],
)
def test_an_invalid_value_is_refused(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed(**extra)


def test_a_key_without_its_id_is_refused_and_not_quoted() -> None:
    with pytest.raises(ValueError, match="needs both login") as raised:
        parsed(None, "hidden")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("service_config", "endpoint"),
    [({}, None), ({"sts": {"endpoint_url": "http://sts.example"}}, "http://sts.example")],
)
def test_a_role_is_assumed_at_the_endpoint_of_sts_only(
    service_config: dict[str, Any], endpoint: str | None
) -> None:
    arn = "arn:aws:iam::1:role/r"
    connection = parsed(
        "AKIA", "s", role_arn=arn, endpoint_url="http://all.example", service_config=service_config
    )
    assert connection.keys == AwsKeySource(AwsKeys("AKIA", "s"), role=AssumedRole(arn, endpoint=endpoint))


def test_a_profile_of_the_environments_files_may_be_named() -> None:
    assert parsed(profile_name="etl").keys == AwsKeySource(profile="etl")
