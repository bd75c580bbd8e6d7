"""A daemon with HTTPS_PROXY and NO_PROXY in its environment, and tinyproxy with a login.

The targets have this machine's host name: the environment's proxies do not hold for loopback
addresses, and tinyproxy has to look the name up.
"""

import hashlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import trustme
from aiohttp import web
from daemon import Daemon, daemon, get_wait, submit, until
from forward_proxy import PASSWORD, tinyproxy

HOST = socket.gethostname()
SERVICES = ("jobs", "hook", "token", "s3", "sts", "sqs", "airflow", "direct")
STS_ANSWER = """<R><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></R>"""


class Services:
    """HTTPS servers on separate ports; `ports` are by name."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        self._certificate = authority.issue_cert(HOST)
        self.ports: dict[str, int] = {}

    def url(self, service: str) -> str:
        return f"https://{HOST}:{self.ports[service]}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Services"]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._certificate.configure_cert(tls)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            for service in SERVICES:
                await web.TCPSite(runner, socket.gethostbyname(HOST), 0, ssl_context=tls).start()
                self.ports[service] = runner.addresses[-1][1]
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        port = request.url.port
        match next(service for service, own in self.ports.items() if own == port):
            case "token":
                return web.json_response({"access_token": "t", "expires_in": 3600})
            case "s3":
                headers = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
                return web.Response(headers=headers)
            case "sts":
                return web.Response(text=STS_ANSWER, content_type="text/xml")
            case "sqs":
                body = orjson.loads(await request.read())["MessageBody"].encode()
                digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
                return web.json_response({"MessageId": "1", "MD5OfMessageBody": digest})
        return web.json_response({"job": {"id": 7, "state": "DONE"}})

    @property
    def connections(self) -> dict[str, str]:
        """The connections of the daemon, in its environment."""
        keys = {"conn_type": "aws", "login": "AKIA", "password": "s"}
        role = {
            "role_arn": "arn:aws:iam::1:role/r",
            "service_config": {"sts": {"endpoint_url": self.url("sts")}},
        }
        token = {
            "auth_type": "oauth2_client_credentials",
            "token_url": f"{self.url('token')}/",
            "client_id": "i",
        }
        by_id: dict[str, Any] = {
            "jobs": {"conn_type": "http", "host": self.url("jobs"), "password": "s", "extra": token},
            "aws": {
                **keys,
                "extra": {"region_name": "eu-west-1", "endpoint_url": self.url("s3"), **role},
            },
            "sqs": {**keys, "extra": {"region_name": "eu-west-1", "endpoint_url": self.url("sqs")}},
            "airflow": {"conn_type": "airflow", "host": self.url("airflow"), "password": "t"},
        }
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in by_id.items()}


def waits(services: Services) -> list[dict[str, Any]]:
    job = {
        "kind": "http",
        "submit": {"http_conn_id": "jobs", "endpoint": "/jobs", "handle": "body.job.id"},
        "params": {"http_conn_id": "jobs", "endpoint": "/jobs/{handle}"},
        "sinks": [
            {"kind": "webhook", "url": f"{services.url('hook')}/"},
            {"kind": "sqs", "aws_conn_id": "sqs", "queue_url": f"{services.url('sqs')}/1/q"},
            {"kind": "airflow", "conn_id": "airflow", "mode": "dag_run", "dag_id": "d"},
        ],
    }
    key = {"kind": "s3_key", "params": {"aws_conn_id": "aws", "bucket_key": "s3://bucket/key"}}
    direct = {"kind": "http", "params": {"endpoint": f"{services.url('direct')}/"}}
    return [wait | {"poke_interval": 0.2, "timeout": 300} for wait in (job, key, direct)]


async def delivered(client: aiohttp.ClientSession, waitd: Daemon, wait_id: str) -> bool:
    wait = await get_wait(client, waitd, wait_id)
    return all(each["state"] == "delivered" for each in wait["deliveries"])


async def is_proxy_named(client: aiohttp.ClientSession, waitd: Daemon, wait_id: str, proxy: str) -> bool:
    verdict = (await get_wait(client, waitd, wait_id))["last_verdict"] or {}
    return verdict.get("reason") == "proxy" and proxy in verdict["message"]


async def test_everything_goes_through_the_proxy_except_what_no_proxy_names(tmp_path: Path) -> None:
    async with Services(tmp_path).running() as services, AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        async with tinyproxy(tmp_path, login=True) as proxy:
            environment = {
                "HTTPS_PROXY": proxy.with_login,
                "NO_PROXY": f"10.0.0.0/8,{HOST}:{services.ports['direct']}",
                "SSL_CERT_FILE": str(services.authority),
                "AWS_CA_BUNDLE": str(services.authority),  # this machine may set one, which STS obeys
            }
            waitd = await stack.enter_async_context(
                daemon(tmp_path / "state", **environment, **services.connections)
            )
            ids = [await submit(client, waitd, wait) for wait in waits(services)]
            for wait_id in ids:
                wait = await get_wait(client, waitd, wait_id, seconds=30)
                assert wait["state"] == "success", wait["last_verdict"]
            await until(lambda: delivered(client, waitd, ids[0]), what="three deliveries")
            through = {name for name in SERVICES if proxy.count(f"CONNECT {HOST}:{services.ports[name]}")}
            assert through == {*SERVICES} - {"direct"}
        wait_id = await submit(client, waitd, waits(services)[0])
        await until(lambda: is_proxy_named(client, waitd, wait_id, proxy.url), what="a verdict")
        assert PASSWORD not in json.dumps([waitd.log, await get_wait(client, waitd, wait_id)])
