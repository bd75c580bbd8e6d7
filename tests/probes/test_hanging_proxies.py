"""Requests behind a proxy that cannot be reached, hangs, resets, or refuses to open a tunnel."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from fakes import FakeConnections
from forward_proxy import Failure, small_proxy
from raw_server import Poked
from stream_server import stream_server

from waitd.cli.until_loop import StandaloneWait, poke_once
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.connections.connection import Connection
from waitd.core.connections.proxies import noted_proxy, parse_proxies
from waitd.core.connections.token_requests import TokenRequest
from waitd.core.errors import ConnectionUnavailable
from waitd.core.waits.delivery import DeliveryFailed, DeliveryId
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.submission import SubmitUnavailable, SubmitUncertain
from waitd.core.waits.verdict import Unreachable
from waitd.core.waits.wait import WaitId
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard
from waitd.ports import OutboxItem, Probe
from waitd.probes.aws.probe import AwsWaiterProbe
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.key import S3KeyProbe
from waitd.sinks.webhook import WebhookSink

#: The time limit where an answer is expected, and where none is.
PATIENCE, SECONDS = 60.0, 0.3
NO_CONNECTIONS = FakeConnections()
AWS = FakeConnections(Connection("aws_default", "aws", login="AKIA", password="s"))


async def poke(probe: Probe, params: dict[str, Any], seconds: float) -> str:
    target = probe.parse(params, namespace="default")
    verdict = await poke_once(StandaloneWait(target, Pacing(60), 0.0), probe, seconds)
    assert isinstance(verdict, Unreachable)
    return verdict.message


async def get(egress: EgressGuard, seconds: float) -> str:
    async with HttpProbe(NO_CONNECTIONS, secret_headers=(), egress=egress) as probe:
        return await poke(probe, {"endpoint": "https://target.test/x"}, seconds)


async def post(egress: EgressGuard, seconds: float) -> str:
    async with HttpProbe(NO_CONNECTIONS, secret_headers=(), egress=egress) as probe:
        return await poke(probe, {"endpoint": "https://target.test/x", "method": "POST"}, seconds)


async def s3(egress: EgressGuard, seconds: float) -> str:
    async with S3Client(AWS, egress=egress) as client:
        return await poke(S3KeyProbe(client), {"bucket_key": "s3://bucket/key"}, seconds)


async def aws_waiter(egress: EgressGuard, seconds: float) -> str:
    params = {"service": "ec2", "waiter": "instance_running", "params": {"InstanceIds": ["i-1"]}}
    async with AwsWaiterProbe(AWS, egress=egress) as probe:
        await probe.prepare(params)
        return await poke(probe, params, seconds)


async def submit(egress: EgressGuard, seconds: float) -> str:
    call = {"endpoint": "https://target.test/jobs", "handle": "body.id", "request_timeout": seconds}
    async with (
        HttpProbe(NO_CONNECTIONS, secret_headers=(), egress=egress) as probe,
        HttpJobs(NO_CONNECTIONS, secret_headers=(), egress=egress) as jobs,
    ):
        plan = probe.parse_submit(call, {"endpoint": "https://target.test/{handle}"}, namespace="default")
        answer = await jobs.submit(plan, WaitId("w"))
    assert isinstance(answer, SubmitUncertain | SubmitUnavailable)
    return answer.message


async def webhook(egress: EgressGuard, seconds: float) -> str:
    connection = Connection("hook", host="https://target.test", extra={"timeout": seconds})
    item = OutboxItem(DeliveryId("d"), WaitId("w"), "default", {}, b"{}", 1, 0.0)
    async with WebhookSink(
        FakeConnections(connection), secret=None, secret_headers=(), egress=egress
    ) as sink:
        receipt = await sink.deliver(sink.parse({"conn_id": "hook", "endpoint": "x"}), item)
    assert isinstance(receipt, DeliveryFailed)
    return receipt.error


async def token(egress: EgressGuard, seconds: float) -> str:
    async with TokenEndpointClient(
        egress, instruments=Instruments(version="test"), timeout=seconds
    ) as tokens:
        with pytest.raises(ConnectionUnavailable) as raised:
            await tokens.fetch(TokenRequest("https://target.test/token", ()))
    return str(raised.value)


Send = Callable[[EgressGuard, float], Awaitable[str]]
SENDERS: list[Send] = [get, post, s3, aws_waiter, submit, webhook, token]


@asynccontextmanager
async def proxy_that_accepts_nobody() -> AsyncIterator[str]:
    """Its queue of connections is full, so that the system answers no other."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.socket() as first:
        first.connect(listening.getsockname())
        with closing(socket.socket()) as second:
            second.setblocking(False)
            second.connect_ex(listening.getsockname())
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("send", SENDERS)
async def test_a_proxy_that_cannot_be_connected_to_is_named(send: Send) -> None:
    async with proxy_that_accepts_nobody() as proxy:
        message = await send(EgressGuard(proxies=parse_proxies({"all": proxy})), SECONDS)
    assert proxy in message


@pytest.mark.parametrize("failure", ["hang", "reset", b"HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("send", SENDERS)
async def test_a_proxy_that_opens_no_tunnel_is_named(send: Send, failure: bytes | Failure) -> None:
    async with small_proxy(failure) as proxy:
        seconds = SECONDS if failure == "hang" else PATIENCE
        message = await send(EgressGuard(proxies=parse_proxies({"all": proxy.url})), seconds)
        assert failure == "hang" or len(proxy.heads) == 1
    assert proxy.url in message


async def test_a_poke_without_a_task_names_the_proxy_of_its_connection() -> None:
    """The proxy answers the first request, which opens the connection, and then no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with stream_server(serve) as port:
        proxy = f"http://127.0.0.1:{port}"
        egress = EgressGuard(proxies=parse_proxies({"all": proxy}))
        async with HttpProbe(NO_CONNECTIONS, secret_headers=(), egress=egress) as probe:
            group = [Poked(probe.parse({"endpoint": "http://target.test/x"}, namespace="default"))]
            await probe.poke(group)
            results: list[Any] = []
            cancel = probe.start_poke(group, results.append)
            await asyncio.sleep(0)
            cancel()
    [cancelled] = results
    assert isinstance(cancelled, asyncio.CancelledError)
    assert noted_proxy(cancelled) == proxy
