"""What many hosts cost a program that only sends a request to each and reads what comes back.

    python tests/benchmarks/floor.py PORT CA HOSTS INTERVAL SECONDS

It keeps a connection to each host of nginx, with TLS if CA is a file and without if it is `-`, and
sends a fixed request on each every INTERVAL seconds. The requests of a slot of a daemon's grid
share a timer; uvloop reads, and nothing is parsed. It prints the requests, the CPU seconds and how
often it slept, during SECONDS from the second round on.
"""

import asyncio
import resource
import ssl
import sys
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nginx import SUFFIX

from waitd.core.waits.schedule import MIN_SLOTS, SLOT_SECONDS


class _Host(asyncio.Protocol):
    """A connection that counts answers: each arrives in one piece."""

    answers = 0

    def __init__(self, number: int, port: int) -> None:
        self._request = f"GET /jobs/{number} HTTP/1.1\r\nHost: h{number}.{SUFFIX}:{port}\r\n\r\n".encode()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self) -> None:
        self._transport.write(self._request)

    def data_received(self, _: bytes) -> None:
        self.answers += 1


class _Usage:
    """Requests, CPU seconds and voluntary context switches so far."""

    def __init__(self, hosts: list[_Host]) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.answers = sum(host.answers for host in hosts)
        self.cpu, self.sleeps = usage.ru_utime + usage.ru_stime, usage.ru_nvcsw


async def _send_forever(hosts: list[_Host], interval: float) -> None:
    loop = asyncio.get_running_loop()
    slots = round(max(MIN_SLOTS, interval / SLOT_SECONDS))
    started, turn = loop.time(), 0
    while True:
        for host in hosts[turn % slots :: slots]:
            host.send()
        turn += 1
        await asyncio.sleep(started + turn * interval / slots - loop.time())


async def _measure(port: int, ca: str, count: int, interval: float, seconds: float) -> None:
    loop, tls = asyncio.get_running_loop(), None if ca == "-" else ssl.create_default_context(cafile=ca)
    hosts = []
    for number in range(count):
        name = None if tls is None else f"h{number}.{SUFFIX}"
        _, host = await loop.create_connection(
            lambda number=number: _Host(number, port), "127.0.0.1", port, ssl=tls, server_hostname=name
        )
        hosts.append(host)
    sending = asyncio.create_task(_send_forever(hosts, interval))
    await asyncio.sleep(interval)
    before = _Usage(hosts)
    await asyncio.sleep(seconds)
    after = _Usage(hosts)
    sending.cancel()
    print(after.answers - before.answers, after.cpu - before.cpu, after.sleeps - before.sleeps)


if __name__ == "__main__":
    port, ca, count, interval, seconds = sys.argv[1:]
    uvloop.run(_measure(int(port), ca, int(count), float(interval), float(seconds)))
