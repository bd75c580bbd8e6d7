"""Look-ups of host names: how many a second, and how late healthy names are beside hung ones.

`python tests/benchmarks/names.py`. The name server runs in the same process, so that its CPU time
counts with the look-ups. The comparison has the four threads that uvloop looks names up in, and
hung names that take 5 s, as with glibc.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import uvloop
from name_server import name_server

from waitd.outgoing import CachingResolver, CaresLookup

HUNG, HEALTHY, LOOKUPS, CACHED = 100, 50, 2000, 100_000
THREADS, GLIBC_SECONDS = 4, 5.0

Resolve = Callable[[str], Awaitable[object]]


def healthy(number: int) -> str:
    return f"h{number}.healthy.example"


async def lateness(resolve: Resolve) -> float:
    """Seconds until all healthy names are found that are asked for after the hung ones."""
    hung = [asyncio.ensure_future(resolve(f"n{number}.hung.example")) for number in range(HUNG)]
    await asyncio.sleep(0.01)
    started = time.monotonic()
    await asyncio.gather(*(resolve(healthy(number)) for number in range(HEALTHY)))
    late = time.monotonic() - started
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    return late


async def lateness_in_threads() -> float:
    """The same in a few threads."""
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(THREADS)

    def look_up(host: str) -> None:
        if host.endswith("hung.example"):
            time.sleep(GLIBC_SECONDS)
        else:
            socket.getaddrinfo("localhost", 80)

    try:
        return await lateness(lambda host: loop.run_in_executor(threads, look_up, host))
    finally:
        threads.shutdown(cancel_futures=True)


async def main() -> None:
    """Prints the figures."""
    records = {healthy(number): ["127.0.0.1"] for number in range(LOOKUPS)}
    async with name_server(records=records, hung=("hung.example",)) as server:
        names = CachingResolver(CaresLookup({"servers": [server.address]}))
        late = await lateness(names.resolve)
        started, cpu = time.monotonic(), time.process_time()
        for first in range(0, LOOKUPS, 100):
            await asyncio.gather(*(names.resolve(healthy(first + number)) for number in range(100)))
        wall, cpu = time.monotonic() - started, time.process_time() - cpu
        cached = time.process_time()
        for _ in range(CACHED):
            await names.resolve(healthy(0))
        cached = time.process_time() - cached
        await names.close()
    print(
        f"look-ups by c-ares      {LOOKUPS / wall:,.0f} a second, {cpu / LOOKUPS * 1e6:.0f} µs of CPU each, with the server's"
    )
    print(f"cached                  {cached / CACHED * 1e6:.1f} µs of CPU each")
    print(
        f"{HEALTHY} healthy beside {HUNG} hung: {late:.3f} s by c-ares, {await lateness_in_threads():.1f} s in {THREADS} threads"
    )


if __name__ == "__main__":
    uvloop.run(main())
