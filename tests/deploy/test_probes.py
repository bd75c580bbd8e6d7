"""The probes of all platforms, made to a real daemon."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from certificates import Authority
from daemon import Daemon, daemon
from known_settings import DEFAULT_PORT
from manifests import DEPLOY, Object, find_object, pod_of, probe_actions
from stream_server import Handler, stream_server

pytestmark = pytest.mark.slow
HEALTH = DEPLOY / "waitd-health"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path) as waitd:
        yield waitd


def all_actions(deployments: dict[str, list[Object]]) -> set[tuple[str, str]]:
    """Every probe of any deployment, and Prometheus's scrape."""
    actions = {
        ("httpGet", e["path"])
        for e in find_object(deployments["everything"], "ServiceMonitor", "waitd")["spec"]["endpoints"]
    }
    for name, workload in [("base", "waitd"), ("standalone", "waitd"), ("sidecar", "airflow-scheduler")]:
        actions |= set(probe_actions(pod_of(find_object(deployments[name], "StatefulSet", workload))))
    return actions


def health(path: str, bind: str, **environment: str) -> tuple[int, str]:
    """The exit code and the error message of the image's own probe."""
    done = subprocess.run(
        [sys.executable, "-IS", HEALTH, path],
        env={"WAITD_BIND": bind, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not done.stdout
    return done.returncode, done.stderr


async def test_every_probe_of_every_deployment_succeeds(
    deployments: dict[str, list[Object]], running: Daemon
) -> None:
    actions = all_actions(deployments)
    assert {path for _, path in actions} == {"/livez", "/readyz", "/metrics"}
    async with aiohttp.ClientSession() as client:
        for program, path in actions:
            if program == "httpGet":
                async with client.get(running.url + path) as answer:
                    assert answer.status == 200, path
            else:
                assert program == HEALTH.name
                assert await asyncio.to_thread(health, path, urlsplit(running.url).netloc) == (0, ""), path


async def test_a_failed_probe_of_the_image_has_a_message(running: Daemon) -> None:
    bind = urlsplit(running.url).netloc
    code, message = await asyncio.to_thread(health, "/nowhere", bind)
    assert code == 1
    assert "404" in message
    await running.kill()
    code, message = await asyncio.to_thread(health, "/livez", bind)
    assert code == 1
    assert "does not answer" in message


async def metrics_alone_need_no_key(waitd: Daemon, key: str, authority: Authority) -> None:
    """The address of the metrics serves nothing else, and no wait may poke it."""
    address = f"http://{(await waitd.logged('serving_metrics'))['address']}"
    connector = aiohttp.TCPConnector(ssl=authority.context())
    async with aiohttp.ClientSession(connector=connector) as client:

        async def status(url: str, method: str = "GET", **options: Any) -> int:
            async with client.request(method, url, **options) as answer:
                return answer.status

        host = {"Host": "10.1.2.3:9795"}  # Prometheus uses the pod's address
        assert await status(f"{address}/metrics", headers=host) == 200
        assert await status(f"{waitd.url}/metrics") == 401
        for method, path, expected in (
            ("GET", "/v1/waits", 404),
            ("GET", "/readyz", 404),
            ("POST", "/v1/waits", 404),
            ("POST", "/metrics", 405),
        ):
            assert await status(address + path, method) == expected
        own = {"kind": "http", "params": {"endpoint": f"{address}/metrics"}}
        bearer = {"Authorization": f"Bearer {key}"}
        assert await status(f"{waitd.url}/v1/waits", "POST", json=own, headers=bearer) == 422


def responder(status: str, body: str) -> Handler:
    """Serves one response to the first request of a connection."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    return respond


@pytest.mark.parametrize(("bind", "loopback"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
async def test_a_daemon_on_every_address_is_probed_on_loopback(bind: str, loopback: str) -> None:
    async with stream_server(responder("200 OK", "ok"), host=loopback) as port:
        assert await asyncio.to_thread(health, "/livez", f"{bind}:{port}") == (0, "")


async def test_a_daemon_with_a_certificate_and_keys_is_probed_by_https_without_a_key(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    keys = tmp_path / "api-keys"
    keys.write_text("waitd_test_" + "x" * 43 + " admin\n")
    tls = {"WAITD_TLS_CERTIFICATE": str(authority.certificate), "WAITD_TLS_KEY": str(authority.key)}
    metrics = {"WAITD_METRICS_BIND": "127.0.0.1:0"}
    async with daemon(tmp_path / "state", WAITD_API_KEYS_FILE=str(keys), **tls, **metrics) as waitd:
        await metrics_alone_need_no_key(waitd, keys.read_text().split()[0], authority)
        bind = urlsplit(waitd.url).netloc
        for path in ("/livez", "/readyz"):
            assert await asyncio.to_thread(health, path, bind, **tls) == (0, "")
        code, message = await asyncio.to_thread(health, "/v1/waits", bind, **tls)
        assert code == 1
        assert "401" in message


async def test_a_failed_probe_by_https_shows_the_status_and_the_body(tmp_path: Path) -> None:
    pem = Path(__file__).parents[1] / "sinks" / "self_signed.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    async with stream_server(responder("503 Service Unavailable", "why:x"), tls=context) as port:
        code, message = await asyncio.to_thread(
            health, "/readyz", f"127.0.0.1:{port}", WAITD_TLS_CERTIFICATE=str(pem)
        )
    assert code == 1
    assert "503" in message
    assert "why:x" in message


def test_the_image_exposes_the_default_port() -> None:
    assert f"EXPOSE {DEFAULT_PORT}\n" in (DEPLOY / "Containerfile").read_text()
