"""The API of a real daemon over TLS, with a rotation of its certificate."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from certificates import Authority, replace_file
from cli_process import assert_fails, run_waitd
from daemon import Daemon, daemon, submit, until

pytestmark = pytest.mark.slow
WAIT = {"kind": "http", "params": {"endpoint": "http://127.0.0.1:9/never"}, "poke_interval": 3600}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def waitd(tmp_path: Path, authority: Authority) -> AsyncIterator[Daemon]:
    authority.issue()
    async with daemon(tmp_path / "state", **settings(authority)) as running:
        yield running


@pytest.fixture
async def client(authority: Authority) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=authority.context())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def settings(authority: Authority) -> dict[str, str]:
    return {"WAITD_TLS_CERTIFICATE": str(authority.certificate), "WAITD_TLS_KEY": str(authority.key)}


async def served_certificate(waitd: Daemon, authority: Authority) -> bytes:
    """The certificate (DER) that a new connection gets, verified with the authority."""
    address = urlsplit(waitd.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port, ssl=authority.context())
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_the_api_is_served_over_https_only(
    waitd: Daemon, client: aiohttp.ClientSession, authority: Authority
) -> None:
    assert waitd.url.startswith("https://")
    await submit(client, waitd, WAIT)
    async with aiohttp.ClientSession() as plain:
        with pytest.raises(aiohttp.ClientError):
            await plain.get(waitd.url.replace("https", "http") + "/livez")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await plain.get(waitd.url + "/livez")
    old = authority.context()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    address = urlsplit(waitd.url)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection(address.hostname, address.port, ssl=old)
    async with client.get(f"{waitd.url}/livez") as answer:
        assert answer.status == 200


async def test_new_connections_get_a_rotated_certificate_and_requests_in_flight_continue(
    waitd: Daemon, client: aiohttp.ClientSession, authority: Authority
) -> None:
    wait_id = await submit(client, waitd, WAIT)
    before = await served_certificate(waitd, authority)
    in_flight = asyncio.create_task(client.get(f"{waitd.url}/v1/waits/{wait_id}?wait=60"))
    for _ in range(2):
        now = authority.issue()
        assert now != before

        async def is_served(expected: bytes = now) -> bool:
            return await served_certificate(waitd, authority) == expected

        await until(is_served, what="the new certificate")
    assert not in_flight.done()
    async with client.post(f"{waitd.url}/v1/waits/{wait_id}:cancel") as answer:
        assert answer.status == 200
    async with await in_flight as answer:
        assert (await answer.json())["state"] == "cancelled"


Pair = tuple[bytes, bytes]
BROKEN: dict[str, Callable[[Pair], tuple[bytes, bytes | None]]] = {
    "truncated": lambda pair: (pair[0], pair[1][: len(pair[1]) // 2]),
    "of another key": lambda pair: (pair[0], None),
    "no certificate": lambda pair: (b"no certificate\n", pair[1]),
    "empty": lambda _: (b"", b""),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_pair_that_cannot_be_loaded_is_logged_and_the_old_one_stays(
    waitd: Daemon, authority: Authority, how: str
) -> None:
    before = await served_certificate(waitd, authority)
    certificate, key = BROKEN[how](authority.pair())
    replace_file(authority.certificate, certificate)
    if key is not None:
        replace_file(authority.key, key)

    async def is_logged() -> bool:
        assert await served_certificate(waitd, authority) == before
        return any(line.get("event") == "tls_certificate_not_loaded" for line in waitd.log)

    await until(is_logged, what="the log line")
    line = await waitd.logged("tls_certificate_not_loaded")
    assert line["level"] == "error"
    assert str(authority.certificate) in line["error"]
    now = authority.issue()

    async def is_served() -> bool:
        return await served_certificate(waitd, authority) == now

    await until(is_served, what="the valid certificate")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WAITD_TLS_CERTIFICATE": "tls.crt"}, "tls_key"),
        ({"WAITD_TLS_KEY": "tls.key"}, "set both tls_certificate and tls_key"),
        ({"WAITD_TLS_CERTIFICATE": "none.crt", "WAITD_TLS_KEY": "tls.key"}, "none.crt"),
        ({"WAITD_TLS_CERTIFICATE": "tls.key", "WAITD_TLS_KEY": "tls.key"}, "cannot be used"),
    ],
)
def test_an_invalid_pair_is_a_clear_error_at_start(
    tmp_path: Path, authority: Authority, variables: dict[str, str], message: str
) -> None:
    authority.issue()
    done = subprocess.run(
        [sys.executable, "-m", "waitd", "serve"],
        env={"WAITD_STATE_DIR": str(tmp_path / "state"), "WAITD_BIND": "127.0.0.1:0", **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr


async def test_silent_connections_are_closed_and_others_are_served(
    waitd: Daemon, client: aiohttp.ClientSession
) -> None:
    address = urlsplit(waitd.url)
    silent = [await asyncio.open_connection(address.hostname, address.port) for _ in range(1000)]
    for _ in range(20):
        async with asyncio.timeout(60), client.get(f"{waitd.url}/livez") as answer:
            assert answer.status == 200
    async with asyncio.timeout(30):
        for reader, writer in silent:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    async with client.get(f"{waitd.url}/metrics") as answer:
        text = await answer.text()
    assert "waitd_api_connections 1.0" in text


async def test_the_command_line_uses_https_with_a_ca_file(waitd: Daemon, authority: Authority) -> None:
    async def run_list(*options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run_waitd, *options, "list", "--url", waitd.url, **variables)

    for done in (
        await run_list("--ca-file", str(authority.file)),
        await run_list(WAITD_CA_FILE=str(authority.file)),
    ):
        assert (done.returncode, done.stderr) == (0, "")
    assert_fails(await run_list(), 69, "certificate")
    assert_fails(await run_list("--ca-file", "/nowhere/ca.crt"), 2, "/nowhere/ca.crt")
