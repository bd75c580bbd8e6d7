"""What the platforms ask a running daemon, asked of a real one."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from certificates import Authority
from daemon import Daemon, daemon
from known_settings import DEFAULT_PORT
from manifests import DEPLOY, Object, asked, one, pod_of
from stream_server import stream_server

pytestmark = pytest.mark.slow
HEALTH = DEPLOY / "waitd-health"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path) as waitd:
        yield waitd


def paths_of(ways: dict[str, list[Object]]) -> set[tuple[str, str]]:
    """Every question that any probe of any way asks, and Prometheus's."""
    found = {
        ("httpGet", e["path"])
        for e in one(ways["standalone"], "ServiceMonitor", "waitd")["spec"]["endpoints"]
    }
    for way, name in [("base", "waitd"), ("standalone", "waitd"), ("sidecar", "airflow-scheduler")]:
        found |= set(asked(pod_of(one(ways[way], "StatefulSet", name))))
    return found


def health(path: str, bind: str, **environment: str) -> tuple[int, str]:
    """The exit code of the image's own probe, and what it said."""
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


async def test_every_probe_of_every_way_is_answered(ways: dict[str, list[Object]], running: Daemon) -> None:
    questions = paths_of(ways)
    assert {path for _, path in questions} == {"/livez", "/readyz", "/metrics"}
    async with aiohttp.ClientSession() as client:
        for how, path in questions:
            if how == "httpGet":
                async with client.get(running.url + path) as answer:
                    assert answer.status == 200, path
            else:
                assert how == HEALTH.name
                assert await asyncio.to_thread(health, path, urlsplit(running.url).netloc) == (0, ""), path


async def test_the_images_probe_says_what_is_wrong(running: Daemon) -> None:
    bind = urlsplit(running.url).netloc
    code, said = await asyncio.to_thread(health, "/nowhere", bind)
    assert code == 1
    assert "404" in said
    await running.kill()
    code, said = await asyncio.to_thread(health, "/livez", bind)
    assert code == 1
    assert "does not answer" in said


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "[::]"])
async def test_a_daemon_on_every_address_is_asked_on_loopback(everywhere: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    loopback = "127.0.0.1" if everywhere == "0.0.0.0" else "::1"
    async with stream_server(answer, host=loopback) as port:
        assert await asyncio.to_thread(health, "/livez", f"{everywhere}:{port}") == (0, "")


async def test_a_real_daemon_with_a_certificate_and_keys_is_asked_by_https_and_needs_none(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    keys = tmp_path / "api-keys"
    keys.write_text("waitd_test_" + "x" * 43 + " admin\n")
    tls = {"WAITD_TLS_CERTIFICATE": str(authority.certificate), "WAITD_TLS_KEY": str(authority.key)}
    async with daemon(tmp_path / "state", WAITD_API_KEYS_FILE=str(keys), **tls) as waitd:
        bind = urlsplit(waitd.url).netloc
        for path in ("/livez", "/readyz"):
            assert await asyncio.to_thread(health, path, bind, **tls) == (0, "")
        code, said = await asyncio.to_thread(health, "/v1/waits", bind, **tls)
        assert code == 1
        assert "401" in said


async def test_a_daemon_with_a_certificate_says_what_is_wrong_by_https(tmp_path: Path) -> None:
    import ssl

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nwhy:x")
        await writer.drain()
        writer.close()

    pem = Path(__file__).parents[1] / "sinks" / "self_signed.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    async with stream_server(answer, tls=context) as port:
        code, said = await asyncio.to_thread(
            health, "/readyz", f"127.0.0.1:{port}", WAITD_TLS_CERTIFICATE=str(pem)
        )
    assert code == 1
    assert "503" in said
    assert "why:x" in said


def test_the_port_of_the_image_is_the_default() -> None:
    assert f"EXPOSE {DEFAULT_PORT}\n" in (DEPLOY / "Containerfile").read_text()
