"""Credentials with a server that checks signatures and permissions, and from other sources."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import moto.settings
import pytest
from certificates import Authority
from forward_proxy import small_proxy
from manual_clock import ManualClock
from moto.core.authorization import ActionAuthenticatorMixin
from moto_s3 import S3Server
from raw_server import Script, ScriptedConnections, Transport, answer, raw_server
from s3_pokes import aws, payload_of, poke, poke_key, s3_client
from stream_server import answering, stream_server

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import AssumedRole, AwsKeySource, parse_aws_connection
from waitd.core.connections.connection import Connection
from waitd.core.connections.http_options import ClientTls
from waitd.core.connections.proxies import DEFAULT_PROXIES, parse_proxies
from waitd.core.errors import ConnectionUnavailable
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.probes.access.aws import AccountRef, AwsEndpoints
from waitd.probes.access.aws_credentials import CACHE_SECONDS, REFRESH_INTERVAL, AwsCredentials
from waitd.probes.s3.key import S3KeyProbe

LIST_ONLY = [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]
ALL = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]


@pytest.fixture
def guarded(s3: S3Server) -> Iterator[S3Server]:
    """The server; after `_check_from(0)` it checks signatures and permissions."""
    yield s3
    _check_from(float("inf"))


def _check_from(calls: float) -> None:
    """Checks requests after this many."""
    moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = calls
    ActionAuthenticatorMixin.request_count = 0


def user(s3: S3Server, name: str, statements: list[dict[str, Any]]) -> AwsKeys:
    """Creates a user with these permissions."""
    iam = s3.client("iam")
    try:
        iam.create_user(UserName=name)
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
    finally:
        iam.close()
    return AwsKeys(key["AccessKeyId"], key["SecretAccessKey"])


def connection(s3: S3Server, keys: AwsKeys, **more: str) -> Connection:
    return s3.connection(keys.access_key_id, more.get("secret", keys.secret_access_key))


async def test_signatures_are_valid_for_any_key(guarded: S3Server) -> None:
    bucket = guarded.bucket("a b+c", "ü/~x", "*")
    account = connection(guarded, user(guarded, "able", ALL))
    _check_from(0)
    for key in ("a b+c", "ü/~x", "*"):
        assert isinstance(await poke_key(account, bucket_name=bucket, bucket_key=key), Success)
    verdict = await poke_key(account, bucket_name=bucket, bucket_key="[aü]*", wildcard_match=True)
    assert len(payload_of(verdict)) == 2
    assert isinstance(await poke_key(account, bucket_name=bucket, bucket_key="none"), Pending)


@pytest.mark.parametrize("params", [{"bucket_key": "a"}, {"bucket_key": "a*", "wildcard_match": True}])
async def test_wrong_credentials_fail_and_the_reason_says_which(
    guarded: S3Server, params: dict[str, Any]
) -> None:
    bucket = guarded.bucket("a")
    keys = user(guarded, f"wrong-{len(params)}", ALL)
    _check_from(0)
    bad_secret = await poke_key(
        connection(guarded, keys, secret="not the secret"), bucket_name=bucket, **params
    )
    assert isinstance(bad_secret, Failure)
    assert (bad_secret.reason, bad_secret.silenceable) == ("bad_signature", True)
    bad_id = await poke_key(connection(guarded, AwsKeys("AKIAUNKNOWN", "s")), bucket_name=bucket, **params)
    assert (type(bad_id), bad_id.reason) == (Failure, "invalid_access_key_id")


async def test_a_forbidden_key_fails_and_the_message_names_the_permission(guarded: S3Server) -> None:
    bucket = guarded.bucket("a")
    powerless, lister = (connection(guarded, user(guarded, name, rights)) for name, rights in (("powerless", []), ("lister", LIST_ONLY)))  # fmt: skip
    _check_from(0)
    for who in (powerless, lister):
        head = await poke_key(who, bucket_name=bucket, bucket_key="a")
        assert (type(head), head.reason) == (Failure, "access_denied")
        assert "s3:ListBucket" in head.message
    assert isinstance(
        await poke_key(lister, bucket_name=bucket, bucket_key="a*", wildcard_match=True), Success
    )


async def test_rotated_keys_are_used_within_the_same_poke(guarded: S3Server) -> None:
    bucket = guarded.bucket("a")
    keys = user(guarded, "rotated", ALL)
    _check_from(0)
    async with s3_client(
        connection(guarded, keys, secret="the old one"), connection(guarded, keys)
    ) as client:
        [verdict] = await poke(S3KeyProbe(client), {"bucket_name": bucket, "bucket_key": "a"})
    assert isinstance(verdict, Success)


# ---------------------------------------------------------------- keys from outside the connection


async def test_keys_of_the_environment_are_cached_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    credentials = AwsCredentials(now=lambda: clock[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert (await credentials.get(AwsKeySource())).access_key_id == "ONE"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "TWO")
    clock[0] = CACHE_SECONDS + 1
    assert (await credentials.get(AwsKeySource())).access_key_id == "ONE"  # these do not expire
    assert (await credentials.refresh(AwsKeySource())).access_key_id == "TWO"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THREE")
    clock[0] += REFRESH_INTERVAL - 1
    assert (await credentials.refresh(AwsKeySource())).access_key_id == "TWO"
    clock[0] += 1
    assert (await credentials.refresh(AwsKeySource())).access_key_id == "THREE"


async def test_a_profile_is_read_from_the_environments_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = FILE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    credentials = AwsCredentials(now=lambda: 0.0)
    assert (await credentials.get(AwsKeySource(profile="mine"))).access_key_id == "FILE"
    with pytest.raises(ValueError, match="ProfileNotFound"):
        await credentials.get(AwsKeySource(profile="other"))


async def test_missing_keys_make_the_connection_unusable() -> None:
    verdict = await poke_key(
        Connection("aws_default", "aws", extra={"region_name": "eu-west-1"}), bucket_key="s3://bucket/a"
    )
    assert (type(verdict), verdict.reason) == (Unreachable, "connection_invalid")
    assert "neither the connection nor the environment has AWS credentials" in verdict.message


async def test_a_role_is_assumed_and_its_token_sent(s3: S3Server) -> None:
    role = AssumedRole("arn:aws:iam::123456789012:role/reader", (("ExternalId", "external"),), s3.url)
    source = AwsKeySource(AwsKeys("AKIA", "secret"), None, role, "us-east-1")
    keys = await AwsCredentials(now=lambda: 0.0).get(source)
    assert keys.access_key_id.startswith("ASIA")
    assert keys.session_token
    bucket = s3.bucket("a")
    account = s3.connection(
        role_arn=role.arn, service_config={"sts": {"endpoint_url": s3.url}}, region_name="us-east-1"
    )
    assert isinstance(await poke_key(account, bucket_name=bucket, bucket_key="a"), Success)


STS_KEYS = AwsKeys("ASIA", "s", "t")


def sts_answer(key: str = "ASIA", expiration: str = "2100-01-01T00:00:00Z") -> bytes:
    keys = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in [
            ("AccessKeyId", key),
            ("SecretAccessKey", "s"),
            ("SessionToken", "t"),
            ("Expiration", expiration),
        ]
    )
    body = f"<R><AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult></R>".encode()
    return answer(200, body, "Content-Type: text/xml")


@pytest.mark.parametrize(
    ("lives_for", "keys"), [(3600, ["ASIA1"] * 4), (40, ["ASIA1", "ASIA1", "ASIA2", "ASIA3"])]
)
async def test_a_role_is_assumed_again_before_its_keys_expire(lives_for: int, keys: list[str]) -> None:
    def script(_: str, number: int) -> Script:
        expiration = datetime.now(UTC) + timedelta(seconds=lives_for)
        return [sts_answer(f"ASIA{number}", expiration.isoformat())]

    async with raw_server(script) as server:
        role = AssumedRole("arn:aws:iam::1:role/reader", (), server.url)
        source = AwsKeySource(AwsKeys("AKIA", "secret"), None, role, "us-east-1")
        clock = ManualClock(0.0)
        credentials = AwsCredentials(now=clock)
        seen = []
        for seconds in (0.0, 4.0, 6.0, 60.0):
            clock.at += seconds
            seen += [(await credentials.get(source)).access_key_id]
    assert seen == keys


async def test_sts_is_verified_by_the_store_of_the_settings_and_reached_by_its_proxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def look_up(port: int, egress: EgressGuard) -> AwsKeys:
        role = AssumedRole("arn:aws:iam::1:role/reader", (), f"https://127.0.0.1:{port}")
        source = AwsKeySource(AwsKeys("AKIA", "secret"), None, role, "us-east-1")
        return await AwsCredentials(now=lambda: 0.0, egress=egress).get(source)

    async with stream_server(answering(sts_answer()), tls=authority.server_context()) as port:
        assert await look_up(port, EgressGuard()) == STS_KEYS
        with pytest.raises(ConnectionUnavailable, match="SSLError"):
            await look_up(port, EgressGuard(tls=TlsContexts("certifi")))
        async with small_proxy() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            assert await look_up(port, EgressGuard()) == STS_KEYS
            assert not proxy.heads, "with trust_env false, the environment's proxies are not used"
            environment = parse_proxies({"https": proxy.url})
            assert await look_up(port, EgressGuard(proxies=environment)) == STS_KEYS
            assert len(proxy.heads) == 1


@pytest.mark.parametrize("proxied", [False, True])
async def test_sts_is_asked_over_no_older_tls_than_the_settings_say(tmp_path: Path, *, proxied: bool) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    old = authority.server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with stream_server(answering(sts_answer()), tls=old) as port, small_proxy() as proxy:
        proxies = parse_proxies({"https": proxy.url}) if proxied else DEFAULT_PROXIES
        endpoint, tls = f"https://127.0.0.1:{port}", ClientTls(verify=str(authority.file))
        role = AssumedRole("arn:aws:iam::1:role/reader", (), endpoint, tls)
        source = AwsKeySource(AwsKeys("AKIA", "secret"), None, role, "us-east-1", proxies)
        credentials = AwsCredentials(
            now=lambda: 0.0, egress=EgressGuard(tls=TlsContexts(minimum_version="1.3"))
        )
        with pytest.raises(ConnectionUnavailable, match="SSLError"):
            await credentials.get(source)
        assert await AwsCredentials(now=lambda: 0.0).get(source) == STS_KEYS
        assert len(proxy.heads) == 2 * proxied


async def test_a_role_is_assumed_over_the_tls_of_the_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    async with stream_server(answering(sts_answer()), tls=authority.demanding_context()) as port:
        extra = {
            "role_arn": "arn:aws:iam::123456789012:role/reader",
            "region_name": "eu-west-1",
            "service_config": {"sts": {"endpoint_url": f"https://127.0.0.1:{port}"}},
            "verify": str(authority.file),
            "config_kwargs": {"client_cert": [str(authority.certificate), str(authority.key)]},
        }
        source = parse_aws_connection(Connection("a", "aws", login="AKIA", password="s", extra=extra)).keys
        assert source is not None
        assert await AwsCredentials(now=lambda: 0.0).get(source) == STS_KEYS


async def test_the_message_says_why_a_role_cannot_be_assumed(s3: S3Server) -> None:
    role: dict[str, Any] = {
        "role_arn": "arn:aws:iam::123456789012:role/reader",
        "external_id": "x",
        "service_config": {"sts": {"endpoint_url": s3.url}},
    }
    verdict = await poke_key(s3.connection(**role, region_name="us-east-1"), bucket_key="s3://bucket/a")
    assert isinstance(verdict, Unreachable)
    assert "ParamValidationError" in verdict.message


async def test_an_unavailable_sts_ends_no_wait(s3: S3Server) -> None:
    nowhere = {"sts": {"endpoint_url": "http://127.0.0.1:1"}}
    down = s3.connection(
        role_arn="arn:aws:iam::123456789012:role/reader", service_config=nowhere, region_name="us-east-1"
    )
    verdict = await poke_key(down, bucket_key="s3://bucket/a")
    assert (type(verdict), verdict.reason) == (Unreachable, "credentials_unavailable")


@pytest.mark.parametrize("verify", ["/nonexistent/ca.pem", __file__])
async def test_an_unreadable_ca_bundle_makes_the_connection_unusable(s3: S3Server, verify: str) -> None:
    verdict = await poke_key(s3.connection(verify=verify), bucket_key="s3://bucket/a")
    assert isinstance(verdict, Unreachable)
    assert "verify names" in verdict.message


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({"use_fips_endpoint": True}, "https://s3-fips.us-west-2.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, "https://s3.dualstack.us-west-2.amazonaws.com"),
        (
            {"use_fips_endpoint": True, "use_dualstack_endpoint": True},
            "https://s3-fips.dualstack.us-west-2.amazonaws.com",
        ),
    ],
)
async def test_config_kwargs_choose_an_endpoint_of_aws(config: dict[str, bool], base: str) -> None:
    extra = {"region_name": "us-west-2", "config_kwargs": config}
    account = Connection("aws_default", "aws", login="AKIA", password="s", extra=extra)
    endpoint = await AwsEndpoints(ScriptedConnections([account]), now=lambda: 0.0).get(AccountRef())
    assert (endpoint.base, endpoint.origin, endpoint.style) == (base, base, "virtual")


async def test_an_endpoint_is_cached_while_its_connection_is_and_has_its_own_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Transport, "warm", True)  # then these connections are cached
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    account = AccountRef("aws_default", optional=False)
    own, rotated, keyless = aws("http://own"), aws("http://own"), Connection("aws_default", "aws")
    connections = ScriptedConnections([own, rotated, keyless])
    endpoints = AwsEndpoints(connections, now=lambda: 0.0)
    assert endpoints.cached_fresh(account) is None, "nothing was looked up yet"
    endpoint = await endpoints.get(account)
    assert endpoints.cached_fresh(account) == endpoint
    await connections.refresh("aws_default")
    assert endpoints.cached_fresh(account) is None, "the connection has changed"
    assert (await endpoints.get(account)).keys == AwsKeys("AKIA", "secret")
    await connections.refresh("aws_default")
    assert (await endpoints.get(account)).keys == AwsKeys("AKIAENV", "s")
    assert endpoints.cached_fresh(account) is None, "its keys come from the environment"
