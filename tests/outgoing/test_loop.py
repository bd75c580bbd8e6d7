"""The daemon's event loop: libraries that connect by name use the daemon's names."""

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest
import trustme
from aiohttp.resolver import ThreadedResolver
from stream_server import stream_server

from waitd.app.run import new_loop
from waitd.outgoing import CachingResolver, NameNotFound, ResolverLoop
from waitd.outgoing.names import Answer


class TableLookup:
    """Knows `db.example`, with and without a listener; `hung.example` hangs."""

    limit = 100

    async def find(self, host: str) -> Answer:
        if host == "hung.example":
            await asyncio.Event().wait()
        if host != "db.example":
            raise NameNotFound
        return Answer([(socket.AF_INET, "127.0.0.9"), (socket.AF_INET, "127.0.0.1")], 60)

    async def servers_answer(self) -> bool:
        return True

    def has_changed(self) -> bool:
        return False

    async def close(self) -> None:
        pass


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def with_names() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ResolverLoop)
        loop.resolver = CachingResolver(TableLookup())
        try:
            await test
        finally:
            await loop.resolver.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(with_names())


async def _read(host: str, port: int, **options: Any) -> bytes:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, port, **options)
        content = await reader.read()
        writer.close()
    return content


def test_a_library_connects_by_name_beside_names_that_hang() -> None:
    async def test() -> None:
        async with stream_server(_greet) as port:
            hung = [asyncio.create_task(_read("hung.example", port)) for _ in range(20)]
            assert await _read("db.example", port) == b"hello"
            assert await _read("127.0.0.1", port) == b"hello"
            with pytest.raises(socket.gaierror):
                await _read("other.example", port)
            assert not any(task.done() for task in hung)
            for task in hung:
                task.cancel()

    run(test())


def test_the_certificate_is_checked_for_the_name() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("db.example").configure_cert(server)
    authority.configure_trust(client)

    async def test() -> None:
        async with stream_server(_greet, tls=server) as port:
            assert await _read("db.example", port, ssl=client) == b"hello"
            with pytest.raises(ssl.SSLCertVerificationError):
                await _read("db.example", port, ssl=client, server_hostname="other.example")

    run(test())


def test_look_ups_by_the_loop_itself() -> None:
    async def test() -> None:
        found = await ThreadedResolver().resolve("db.example", 80)  # what aiobotocore uses
        assert [each["host"] for each in found] == ["127.0.0.9", "127.0.0.1"]
        literal = await asyncio.get_running_loop().getaddrinfo("127.0.0.3", 80, type=socket.SOCK_STREAM)
        assert literal[0][4] == ("127.0.0.3", 80)

    run(test())
