from typing import Any

import pytest

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import (
    AssumedRole,
    AwsConnection,
    AwsKeySource,
    is_region,
    parse_aws_connection,
)
from waitd.core.connections.connection import Connection


def account(login: str | None = None, password: str | None = None, **extra: Any) -> AwsConnection:
    return parse_aws_connection(Connection("aws", "aws", login=login, password=password, extra=extra))


def test_an_empty_connection_means_the_environment() -> None:
    assert account() == AwsConnection(AwsKeySource(), None, None, "auto", True, None)


def test_login_and_password_are_the_key_and_go_before_the_extra() -> None:
    found = account("AKIA", "s", aws_session_token="t", aws_access_key_id="no", aws_secret_access_key="no")
    assert found.keys == AwsKeySource(AwsKeys("AKIA", "s", "t"))


def test_the_extra_may_hold_the_key() -> None:
    found = account(aws_access_key_id="AKIA", aws_secret_access_key="s")
    assert found.keys == AwsKeySource(AwsKeys("AKIA", "s"))


def test_the_endpoint_of_s3_goes_before_the_common_one() -> None:
    special = {"s3": {"endpoint_url": "http://Minio:9000/"}}
    assert account(endpoint_url="https://all.example", service_config=special).endpoint == "http://minio:9000"
    assert account(endpoint_url="https://all.example/base/").endpoint == "https://all.example/base"


def test_region_style_and_verify_are_read() -> None:
    found = account(
        region_name="eu-west-1", verify="/etc/ca.pem", config_kwargs={"s3": {"addressing_style": "virtual"}}
    )
    assert (found.region, found.addressing_style, found.verify_tls, found.ca_bundle) == ("eu-west-1", "virtual", True, "/etc/ca.pem")  # fmt: skip


@pytest.mark.parametrize("wish", [False, "false", "False"])
def test_verification_can_be_turned_off(wish: Any) -> None:
    assert (account(verify=wish).verify_tls, account(verify=wish).ca_bundle) == (False, None)


def test_unsigned_means_no_keys_at_all() -> None:
    assert account("AKIA", "s", config_kwargs={"signature_version": "unsigned"}).keys is None


def test_a_role_is_assumed_with_the_key() -> None:
    found = account("AKIA", "s", role_arn="arn:r", external_id="x", assume_role_kwargs={"DurationSeconds": 900}, region_name="eu-west-1")  # fmt: skip
    role = AssumedRole("arn:r", (("DurationSeconds", 900), ("ExternalId", "x")))
    assert found.keys == AwsKeySource(AwsKeys("AKIA", "s"), None, role, "eu-west-1")


@pytest.mark.parametrize(
    ("extra", "told"),
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
def test_unusable_values_are_refused(extra: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        account(**extra)


def test_half_a_key_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValueError, match="needs both login") as caught:
        account(None, "hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["us-east-1", "cn-north-1", "auto", "garage", "x"])
def test_a_region_may_be_anything_that_can_stand_in_a_host(name: str) -> None:
    assert is_region(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a/b", "a@b", "A", "a\n", "x" * 64])
def test_a_region_cannot_lead_to_another_host(name: str) -> None:
    assert not is_region(name)


def test_a_role_is_assumed_at_the_endpoint_that_is_named_for_sts_alone() -> None:
    extra = {"role_arn": "arn:aws:iam::1:role/r", "endpoint_url": "http://all.example"}
    named = {**extra, "service_config": {"sts": {"endpoint_url": "http://sts.example"}}}
    for given, endpoint in ((extra, None), (named, "http://sts.example")):
        account = parse_aws_connection(Connection("c", "aws", login="AKIA", password="s", extra=given))
        assert account.keys is not None
        assert account.keys.role is not None
        assert account.keys.role.endpoint == endpoint


def test_a_profile_of_the_environments_files_may_be_named() -> None:
    account = parse_aws_connection(Connection("c", "aws", extra={"profile_name": "etl"}))
    assert account.keys is not None
    assert (account.keys.static, account.keys.profile) == (None, "etl")
