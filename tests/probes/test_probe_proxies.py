"""Pokes of each kind behind a forward proxy, and the masks of its password."""

from typing import Any

import pytest
from fakes import FakeConnections
from forward_proxy import LOGIN, PASSWORD, small_proxy
from raw_server import Poked, poke_group

from waitd.core.connections.connection import Connection
from waitd.core.connections.proxies import DEFAULT_PROXIES, parse_proxies
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import Probe
from waitd.probes.aws.probe import AwsWaiterProbe
from waitd.probes.http.probe import HttpProbe
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.key import S3KeyProbe

REFUSAL = b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n"


async def poke(probe: Probe, params: dict[str, Any]) -> Verdict:
    target = probe.parse(params, namespace="default")
    return (await poke_group(probe, [Poked(target)]))[0]


def refused(proxy: str) -> Unreachable:
    return Unreachable("proxy", f"The proxy {proxy} refuses the credentials, or needs some (407).")


@pytest.mark.parametrize("own", [True, False])
async def test_s3(own: bool) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra = {"config_kwargs": {"proxies": {"https": proxy.url}}} if own else {}
        connection = Connection("aws_default", "aws", login="AKIA", password="s", extra=extra)
        egress = EgressGuard(proxies=DEFAULT_PROXIES if own else parse_proxies({"all": proxy.url}))
        async with S3Client(FakeConnections(connection), egress=egress) as client:
            verdict = await poke(S3KeyProbe(client), {"bucket_key": "s3://bucket/key"})
    assert verdict == refused(proxy.url)
    assert proxy.heads[0].startswith("CONNECT bucket.s3.us-east-1.amazonaws.com:443 ")


@pytest.mark.parametrize("own", [True, False])
async def test_an_aws_waiter(own: bool) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra = {"proxy": proxy.url} if own else {}
        connection = Connection("aws_default", "aws", login="AKIA", password="s", extra=extra)
        egress = EgressGuard(proxies=DEFAULT_PROXIES if own else parse_proxies({"all": proxy.url}))
        async with AwsWaiterProbe(FakeConnections(connection), egress=egress) as probe:
            params = {"service": "ec2", "waiter": "instance_running", "params": {"InstanceIds": ["i-1"]}}
            await probe.prepare(params)
            verdict = await poke(probe, params)
    assert verdict == refused(proxy.url)
    assert proxy.heads[0].startswith("CONNECT ec2.us-east-1.amazonaws.com:443 ")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"", "disconnected"), (b"SSH-2.0-x\r\n", "bad_answer"), (b"HTTP/1.1 200", "disconnected")],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_verdict_names_the_proxy_that_may_be_the_cause(
    answer: bytes, reason: str, method: str
) -> None:
    async with small_proxy(answer) as proxy:
        egress = EgressGuard(
            proxies=parse_proxies({"http": proxy.url.replace("://", f"://{LOGIN}:{PASSWORD}@")})
        )
        async with HttpProbe(FakeConnections(), secret_headers=(), egress=egress) as probe:
            verdict = await poke(probe, {"endpoint": "http://target.test/x", "method": method})
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == reason
    assert verdict.message.endswith(f" The request goes through {proxy.url}.")


@pytest.mark.parametrize("own", [True, False])
async def test_a_password_that_a_proxy_repeats_is_masked(own: bool) -> None:
    body = f'{{"login": "{LOGIN}:{PASSWORD}"}}'.encode()
    async with small_proxy(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as proxy:
        url = proxy.url.replace("://", f"://{LOGIN}:{PASSWORD}@")
        connection = Connection("c", host="http://target.test", extra={"proxy": url} if own else {})
        egress = EgressGuard(proxies=DEFAULT_PROXIES if own else parse_proxies({"http": url}))
        params: dict[str, Any] = {
            "endpoint": "/x",
            "http_conn_id": "c",
            "success_when": "true",
            "result": "body.login",
        }
        if not own:
            params |= {"endpoint": "http://target.test/x"}
            del params["http_conn_id"]
        async with HttpProbe(FakeConnections(connection), secret_headers=(), egress=egress) as probe:
            verdict = await poke(probe, params)
    assert PASSWORD not in str(verdict)
    assert "***" in str(verdict)
    assert "Proxy-Authorization: Basic " in proxy.heads[0]


@pytest.mark.parametrize("own", [True, False])
async def test_a_password_that_a_proxy_repeats_in_an_answer_of_s3_is_masked(own: bool) -> None:
    body = f"<Error><Code>{LOGIN}:{PASSWORD}</Code></Error>".encode()
    head = b"HTTP/1.1 400 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    async with small_proxy(head % len(body) + body) as proxy:
        url = proxy.url.replace("://", f"://{LOGIN}:{PASSWORD}@")
        extra: dict[str, Any] = {"endpoint_url": "http://store.test"}
        extra |= {"config_kwargs": {"proxies": {"http": url}}} if own else {}
        connection = Connection("aws_default", "aws", login="AKIA", password="s", extra=extra)
        egress = EgressGuard(proxies=DEFAULT_PROXIES if own else parse_proxies({"http": url}))
        async with S3Client(FakeConnections(connection), egress=egress) as client:
            verdict = await poke(S3KeyProbe(client), {"bucket_key": "s3://bucket/key", "use_regex": True})
    assert PASSWORD not in str(verdict)
    assert "***" in str(verdict)
    assert any("Proxy-Authorization: Basic " in each for each in proxy.heads)
