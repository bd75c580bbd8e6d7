"""Sinks behind a forward proxy: the webhook with its token endpoint, sqs, and Airflow."""

import pytest
from authorized import FakeResolver, authorized_connections
from deliveries import failure, make_item
from fakes import FakeConnections
from forward_proxy import small_proxy
from webhook_setup import ITEM

from waitd.core.connections.connection import Connection
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, parse_proxies
from waitd.core.errors import WaitdError
from waitd.core.waits.delivery import DeliveryFailed
from waitd.outgoing import EgressGuard
from waitd.sinks.airflow.api import AirflowApis
from waitd.sinks.brokers.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink

REFUSAL = b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n"


def configured(own: bool, proxy: str) -> tuple[dict[str, str], Proxies]:
    """The extra of a connection and the environment, of which one names the proxy."""
    if own:
        return {"proxy": proxy}, parse_proxies({"all": "http://other.invalid"})
    return {}, parse_proxies({"all": proxy})


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("own", [True, False])
async def test_a_webhook(own: bool, scheme: str) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra, environment = configured(own, proxy.url)
        connection = Connection("c", host=f"{scheme}://hook.test", extra=extra)
        egress = EgressGuard(proxies=environment)
        async with (
            authorized_connections(FakeResolver(connection), egress) as connections,
            WebhookSink(connections, secret=None, secret_headers=(), egress=egress) as sink,
        ):
            receipt = await sink.deliver(sink.parse({"conn_id": "c", "endpoint": "x"}), ITEM)
    assert failure(receipt) == f"the proxy {proxy.url} refuses the credentials, or needs some (407)"
    assert proxy.heads[0].startswith(
        "CONNECT hook.test:443 " if scheme == "https" else "POST http://hook.test/x "
    )


@pytest.mark.parametrize("own", [True, False])
async def test_a_token_endpoint(own: bool) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra, environment = configured(own, proxy.url)
        oauth2 = {
            "auth_type": "oauth2_client_credentials",
            "token_url": "https://login.test/token",
            "client_id": "i",
        }
        connection = Connection("c", host="https://hook.test", password="s", extra=extra | oauth2)
        egress = EgressGuard(proxies=environment)
        async with authorized_connections(FakeResolver(connection), egress) as connections:
            with pytest.raises(WaitdError, match=f"the proxy {proxy.url} refuses"):
                await connections.authorize(await connections.get("c"))
    assert proxy.heads[0].startswith("CONNECT login.test:443 ")


@pytest.mark.parametrize("own", [True, False])
async def test_airflow(own: bool) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra, environment = configured(own, proxy.url)
        connection = Connection("c", "airflow", host="http://airflow.test", password="t", extra=extra)
        egress = EgressGuard(proxies=environment)
        async with (
            authorized_connections(FakeResolver(connection), egress) as connections,
            AirflowApis(connections, egress, lambda: 0.0) as apis,
        ):
            api = await apis.connect("c")
            with pytest.raises(WaitdError, match=f"the proxy {proxy.url} refuses"):
                await api.request("GET", "dags")
    assert proxy.heads[0].startswith("GET http://airflow.test/")


@pytest.mark.parametrize("own", [True, False])
async def test_sqs(own: bool) -> None:
    async with small_proxy(REFUSAL) as proxy:
        extra, environment = configured(own, proxy.url)
        connection = Connection("c", "aws", login="AKIA", password="s", extra=extra)
        queue = "https://sqs.eu-west-1.amazonaws.com/1/q"
        async with SqsSink(FakeConnections(connection), EgressGuard(proxies=environment)) as sink:
            target = sink.parse({"aws_conn_id": "c", "queue_url": queue})
            receipt = await sink.deliver(target, make_item())
    assert receipt == DeliveryFailed(f"the proxy {proxy.url} refuses the credentials, or needs some (407)")
    assert proxy.heads[0].startswith("CONNECT sqs.eu-west-1.amazonaws.com:443 ")


async def test_sqs_reads_no_environment_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with small_proxy() as planted, small_proxy(REFUSAL) as endpoint:
        monkeypatch.setenv("HTTP_PROXY", planted.url)
        extra = {"region_name": "eu-west-1", "endpoint_url": endpoint.url}
        connection = Connection("c", "aws", login="AKIA", password="s", extra=extra)
        async with SqsSink(FakeConnections(connection), EgressGuard(proxies=DEFAULT_PROXIES)) as sink:
            target = sink.parse({"aws_conn_id": "c", "queue_url": f"{endpoint.url}/1/q"})
            await sink.deliver(target, make_item())
        assert (len(planted.heads), len(endpoint.heads)) == (0, 1)
