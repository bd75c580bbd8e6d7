"""TLS contexts of connections: a server verifies the client, the client the server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from certificates import Authority
from stream_server import answering, stream_server

from waitd.core.connections.http_options import ClientTls
from waitd.outgoing.tls import client_tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue()
    return authority


@pytest.fixture
async def url(authority: Authority) -> AsyncIterator[str]:
    """A server that demands a certificate of the same authority."""
    handler = answering(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    async with stream_server(handler, tls=authority.demanding_context()) as port:
        yield f"https://127.0.0.1:{port}"


async def status(url: str, tls: ClientTls) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=await client_tls(tls)) as response:
        return response.status


async def test_a_ca_bundle_and_a_client_certificate_are_used(authority: Authority, url: str) -> None:
    ca, pair = str(authority.file), (str(authority.certificate), str(authority.key))
    assert await status(url, ClientTls(ca, *pair)) == 204
    assert await status(url, ClientTls(False, *pair)) == 204
    for tls in (ClientTls(ca), ClientTls(True, *pair)):
        with pytest.raises(aiohttp.ClientError):
            await status(url, tls)


async def test_certificate_and_key_may_be_one_file(authority: Authority, url: str, tmp_path: Path) -> None:
    both = tmp_path / "client.pem"
    both.write_bytes(authority.key.read_bytes() + authority.certificate.read_bytes())
    assert await status(url, ClientTls(str(authority.file), str(both))) == 204


async def test_without_files_no_context_is_made() -> None:
    assert await client_tls(ClientTls()) is True
    assert await client_tls(ClientTls(verify=False)) is False


async def test_equal_options_share_a_context_until_a_file_changes(authority: Authority) -> None:
    tls = ClientTls(str(authority.file), str(authority.certificate), str(authority.key))
    first = await client_tls(tls)
    assert await client_tls(tls) is first
    authority.issue()
    assert await client_tls(tls) is not first


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (ClientTls("/missing/ca.crt"), "verify names '/missing/ca.crt'.*No such file"),
        (ClientTls(cert="/missing/client.pem"), "cert names '/missing/client.pem'.*No such file"),
        (ClientTls(cert="{junk}", key="/missing/key"), "key of cert names '/missing/key'.*No such file"),
        (ClientTls(cert="-----BEGIN PRIVATE KEY-----\nplanted"), "cert names what is not an absolute path"),
        (ClientTls(cert="{junk}", key="planted" * 50), "key of cert names what is not an absolute path"),
        (ClientTls("true&token=planted"), "verify names what is not an absolute path.*No such file"),
        (ClientTls("/ca\nplanted"), "verify names what is not an absolute path"),
        (ClientTls("{junk}"), "verify names .*junk.* no CA certificates"),
        (ClientTls(cert="{junk}"), "cert names .*junk.* a certificate and its unencrypted key"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(tls: ClientTls, message: str, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("planted")
    filled: list[Any] = [part.replace("{junk}", str(junk)) if isinstance(part, str) else part for part in tls]
    with pytest.raises(ValueError, match=message) as refused:
        await client_tls(ClientTls(*filled))
    assert "planted" not in str(refused.value)
