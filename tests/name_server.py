"""A small DNS server on loopback, over UDP and TCP, as RFC 1035 describes them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from dnslib import AAAA, CLASS, CNAME, QTYPE, RCODE, RR, SOA, A, DNSRecord

#: The longest answer over UDP; a longer one is truncated.
MAX_UDP = 512


@dataclass
class NameServer:
    """Answers from its records; every other name does not exist.

    Attributes:
        records: by name, without the last dot: addresses, and names that the name stands for.
        ttl: the TTL of every record, in seconds.
        codes: the response codes of names, such as `SERVFAIL`; by name, or name and type.
        hung: the suffixes of names for which nothing is answered.
        code: the response code of every other name.
        queries: how often each name was asked for, by name and type.
        over_tcp: how many queries came by TCP.
    """

    records: dict[str, list[str]] = field(default_factory=dict)
    ttl: int = 60
    codes: dict[str, str] = field(default_factory=dict)
    hung: tuple[str, ...] = ()
    code: str = ""
    queries: Counter[str] = field(default_factory=Counter)
    over_tcp: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        """Its address and port, as c-ares takes them."""
        return f"127.0.0.1:{self.port}"

    def answer(self, message: bytes) -> DNSRecord | None:
        """The answer to a query; None: none."""
        query = DNSRecord.parse(message)
        name, kind = str(query.q.qname).rstrip(".").lower(), QTYPE[query.q.qtype]
        self.queries[name] += 1
        self.queries[f"{name} {kind}"] += 1
        if name.endswith(self.hung):
            return None
        reply = query.reply()
        code = self.codes.get(f"{name} {kind}", self.codes.get(name, self.code))
        if code:
            reply.header.rcode = getattr(RCODE, code)
        elif name not in self.records:
            reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(RR(".", QTYPE.SOA, CLASS.IN, 3600, SOA(times=(1, 60, 60, 60, 3600))))
        else:
            self._add(reply, name, kind)
        return reply

    def _add(self, reply: DNSRecord, name: str, kind: str) -> None:
        for value in self.records.get(name, ()):
            if value in self.records:
                reply.add_answer(RR(name, QTYPE.CNAME, CLASS.IN, self.ttl, CNAME(value)))
                self._add(reply, value, kind)
            elif (":" in value) is (kind == "AAAA"):
                data = AAAA(value) if ":" in value else A(value)
                reply.add_answer(RR(name, QTYPE.AAAA if ":" in value else QTYPE.A, CLASS.IN, self.ttl, data))

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers each query on a connection; a message follows its length."""
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                self.over_tcp += 1
                reply = self.answer(await reader.readexactly(length))
                if reply is not None:
                    packed = reply.pack()
                    writer.write(len(packed).to_bytes(2, "big") + packed)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def truncated(message: bytes) -> bytes:
    """The answer to a query that says to ask again by TCP."""
    reply = DNSRecord.parse(message).reply()
    reply.header.tc = 1
    packed: bytes = reply.pack()
    return packed


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data)
        if reply is not None:
            packed = reply.pack()
            self._transport.sendto(packed if len(packed) <= MAX_UDP else truncated(data), addr)


@asynccontextmanager
async def name_server(**options: object) -> AsyncIterator[NameServer]:
    """A name server on a free port of 127.0.0.1."""
    server = NameServer(**options)  # type: ignore[arg-type] # the fields of the class
    loop = asyncio.get_running_loop()
    streams = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
    server.port = streams.sockets[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(server), local_addr=("127.0.0.1", server.port)
    )
    try:
        yield server
    finally:
        datagrams.close()
        streams.close()
