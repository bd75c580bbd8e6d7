"""The API of a real daemon over TLS: the certificate is rotated under it, and whoever is connected notices nothing."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from certificates import Authority, replace_file
from daemon import Daemon, daemon, until

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


async def shown(waitd: Daemon, authority: Authority) -> bytes:
    """The certificate that a new connection is shown (DER), checked against the authority."""
    address = urlsplit(waitd.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port, ssl=authority.context())
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_it_answers_https_and_nothing_else(
    waitd: Daemon, client: aiohttp.ClientSession, authority: Authority
) -> None:
    assert waitd.url.startswith("https://")
    async with client.post(f"{waitd.url}/v1/waits", json=WAIT) as answer:
        assert answer.status == 201
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


async def test_a_rotated_certificate_is_shown_to_new_connections_and_requests_in_flight_go_on(
    waitd: Daemon, client: aiohttp.ClientSession, authority: Authority
) -> None:
    async with client.post(f"{waitd.url}/v1/waits", json=WAIT) as answer:
        wait_id = (await answer.json())["id"]
    before = await shown(waitd, authority)
    in_flight = asyncio.create_task(client.get(f"{waitd.url}/v1/waits/{wait_id}?wait=60"))
    for _ in range(2):
        now = authority.issue()
        assert now != before

        async def is_shown(expected: bytes = now) -> bool:
            return await shown(waitd, authority) == expected

        await until(is_shown, what="the new certificate")
    assert not in_flight.done()
    async with client.post(f"{waitd.url}/v1/waits/{wait_id}:cancel") as answer:
        assert answer.status == 200
    async with await in_flight as answer:
        assert (await answer.json())["state"] == "cancelled"


Pair = tuple[bytes, bytes]
BROKEN: dict[str, Callable[[Pair], tuple[bytes, bytes | None]]] = {
    "half-written": lambda pair: (pair[0], pair[1][: len(pair[1]) // 2]),
    "of another key": lambda pair: (pair[0], None),
    "no certificate": lambda pair: (b"no certificate\n", pair[1]),
    "empty": lambda _: (b"", b""),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_pair_that_does_not_load_is_an_error_in_the_log_and_the_old_one_stays(
    waitd: Daemon, authority: Authority, how: str
) -> None:
    before = await shown(waitd, authority)
    certificate, key = BROKEN[how](authority.pair())
    replace_file(authority.certificate, certificate)
    if key is not None:
        replace_file(authority.key, key)

    async def is_logged() -> bool:
        assert await shown(waitd, authority) == before
        return any(line.get("event") == "tls_certificate_not_loaded" for line in waitd.log)

    await until(is_logged, what="the log line")
    line = await waitd.logged("tls_certificate_not_loaded")
    assert line["level"] == "error"
    assert str(authority.certificate) in line["why"]
    now = authority.issue()

    async def is_shown() -> bool:
        return await shown(waitd, authority) == now

    await until(is_shown, what="the mended certificate")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WAITD_TLS_CERTIFICATE": "tls.crt"}, "tls_key"),
        ({"WAITD_TLS_KEY": "tls.key"}, "go together"),
        ({"WAITD_TLS_CERTIFICATE": "none.crt", "WAITD_TLS_KEY": "tls.key"}, "none.crt"),
        ({"WAITD_TLS_CERTIFICATE": "tls.key", "WAITD_TLS_KEY": "tls.key"}, "cannot be used"),
    ],
)
def test_a_pair_that_is_none_is_a_clear_error_at_start(
    tmp_path: Path, authority: Authority, given: dict[str, str], said: str
) -> None:
    authority.issue()
    done = subprocess.run(
        [sys.executable, "-m", "waitd", "serve"],
        env={"WAITD_STATE_DIR": str(tmp_path / "state"), "WAITD_BIND": "127.0.0.1:0", **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_whoever_connects_and_says_nothing_is_let_go_and_others_are_served(
    waitd: Daemon, client: aiohttp.ClientSession
) -> None:
    address = urlsplit(waitd.url)
    silent = [await asyncio.open_connection(address.hostname, address.port) for _ in range(1000)]
    for _ in range(20):
        async with asyncio.timeout(5), client.get(f"{waitd.url}/livez") as answer:
            assert answer.status == 200
    async with asyncio.timeout(30):
        for reader, writer in silent:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    async with client.get(f"{waitd.url}/metrics") as answer:
        text = await answer.text()
    assert "waitd_api_connections 1.0" in text


async def test_the_command_line_speaks_https_with_a_certificate_of_ones_own(
    waitd: Daemon, authority: Authority
) -> None:
    async def listed(*options: str, **environment: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waitd", *options, "list", "--url", waitd.url),
            env={"PATH": "/usr/bin:/bin", **environment},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return process.returncode, said.decode()

    assert await listed("--ca-file", str(authority.file)) == (0, "")
    assert await listed(WAITD_CA_FILE=str(authority.file)) == (0, "")
    code, said = await listed()
    assert code == 69
    assert "certificate" in said
    code, said = await listed("--ca-file", "/nowhere/ca.crt")
    assert code == 2
    assert "/nowhere/ca.crt" in said
