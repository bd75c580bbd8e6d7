"""Measures how a daemon goes on answering while callers and targets are hostile.

    python tests/benchmarks/hostile.py                       every attack, about three minutes
    python tests/benchmarks/hostile.py --only members        one attack; may be repeated
    python tests/benchmarks/hostile.py --only answers --count 1000

Attacks:
    idle       none, to compare with
    bodies     eight callers without a key send a gzip body that inflates to 1 GiB
    members    forty waits on targets that answer with empty gzip members without end
    query      waits whose SQLite query cannot be interrupted
    lists      eight callers ask for the largest lists and do not read them
    answers    10,000 waits, each on another generated hostile answer; none of them may end

For each, `/livez` is asked a hundred times a second. The daemon has one core; everything else
shares the others, so that a busy machine makes the figures worse, not better. Only the CPU time of
the longest turn of the event loop does not depend on what else the machine does.
"""

import argparse
import asyncio
import gzip
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop
from figures import Figure, print_figures
from hostile_answers import CHUNKED, CONDITIONS, GZIP, OK, HostileServer, chunk, hostile_server
from lab import CORES, POKES, MeasuredDaemon, running_daemon, say, use_other_cores
from loop_turns import VARIABLE, Turns, longest, p99
from stream_server import stream_server

from waitd.bench.children import ChildFailed, child
from waitd.bench.machine import machine
from waitd.bench.quantiles import quantile

HERE = Path(__file__).parent
LIVEZ_GOAL, LAG_GOAL = 50.0, 20.0
SECONDS = 10.0
#: Origins of the hostile answers, so that no limit per origin slows the pokes down.
ORIGINS = 250
#: Fewer answers a second than these end the attack with an error.
ANSWERS_PER_SECOND = 25.0
#: A query of one instruction that takes minutes.
QUERY = (
    "select instr(replace(hex(zeroblob(1000000)),'00','aa'), replace(hex(zeroblob(500000)),'00','aa')||'b')*0"
)


async def watched(
    name: str, daemon: MeasuredDaemon, turns_file: Path, attack: Callable[[MeasuredDaemon], Awaitable[str]]
) -> list[Figure]:
    """Runs an attack, and returns the figures of `/livez` and of the event loop meanwhile."""
    say(f"attack {name}")
    latencies = turns_file.with_name("latencies")
    address = daemon.client.url.removeprefix("http://")
    python = (sys.executable, str(HERE / "livez_watch.py"))
    before = Turns.read(turns_file)
    async with child([address], log=latencies, cores=CORES.others, python=python) as watcher:
        note = await attack(daemon)
        if watcher.returncode is not None:
            raise ChildFailed("`/livez` was not answered", latencies)
        memory = daemon.usage.rss >> 20
    milliseconds = [float(line) for line in latencies.read_text().splitlines(keepends=True) if "\n" in line]
    turns = Turns.read(turns_file).since(before)
    count = f"{len(milliseconds):,} requests; p50 {quantile(milliseconds, 0.5):.1f} ms"
    return [
        Figure(
            f"{name}: /livez p99",
            quantile(milliseconds, 0.99),
            "ms",
            LIVEZ_GOAL,
            note=f"{count}, max {max(milliseconds):.0f} ms; {memory} MiB resident",
        ),
        Figure(
            f"{name}: loop lag p99", p99(turns.lag), "ms", LAG_GOAL, note=f"longest {longest(turns.lag)} ms"
        ),
        Figure(f"{name}: longest turn of the loop, CPU time", longest(turns.cpu), "ms", LAG_GOAL, note=note),
    ]


async def idle(_: MeasuredDaemon) -> str:
    """Nothing happens."""
    await asyncio.sleep(SECONDS)
    return ""


async def bodies(daemon: MeasuredDaemon) -> str:
    """Callers without a key send bombs as request bodies."""
    body = gzip.compress(bytes(1 << 30), 9)
    host = daemon.client.url.removeprefix("http://")
    head = f"POST /v1/waits HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    until = time.monotonic() + SECONDS
    sent = 0

    async def send() -> None:
        nonlocal sent
        while time.monotonic() < until:
            reader, writer = await asyncio.open_connection(*host.split(":"))
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(5):
                    writer.write(head.encode() + body)
                    await reader.read(200)
                    sent += 1
            writer.close()

    await asyncio.gather(*(send() for _ in range(8)))
    return f"{sent:,} bodies"


async def members(daemon: MeasuredDaemon) -> str:
    """Targets answer with empty gzip members."""
    answer = OK + GZIP + CHUNKED + b"\r\n" + chunk(gzip.compress(b"") * 50_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()  # until the daemon closes the connection
        writer.close()

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(stream_server(serve)) for _ in range(8)]
        urls = [f"http://127.0.0.1:{ports[n % 8]}/{n}" for n in range(40)]
        await daemon.submit({"kind": "http", "params": {"endpoint": url, **CONDITIONS}, "poke_interval": 0.1, "max_wait": 0.2} for url in urls)  # fmt: skip
        await asyncio.sleep(SECONDS)
    return f"{(await daemon.metrics()).total('waitd_pokes_total'):,.0f} pokes"


async def query(daemon: MeasuredDaemon) -> str:
    """Queries that cannot be interrupted."""
    await daemon.submit(
        {"kind": "sql", "params": {"conn_id": "lite", "sql": f"{QUERY} + {n}", "request_timeout": 2}, "poke_interval": 1}
        for n in range(8)
    )  # fmt: skip
    await asyncio.sleep(SECONDS)
    return f"{(await daemon.metrics()).total('waitd_pokes_total'):,.0f} pokes"


async def lists(daemon: MeasuredDaemon) -> str:
    """Callers ask for the largest lists and do not read them."""
    wait = {"kind": "http", "params": {"endpoint": "http://127.0.0.1:9/", "data": "x" * 60_000, "method": "POST"}, "poke_interval": 3600}  # fmt: skip
    for _ in range(10):
        await daemon.submit([wait | {"labels": {"n": str(n)}} for n in range(100)])
    host = daemon.client.url.removeprefix("http://")
    writers = []
    for _ in range(8):
        _reader, writer = await asyncio.open_connection(*host.split(":"), limit=1024)
        writer.write(f"GET /v1/waits?limit=1000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        writers.append(writer)
    await asyncio.sleep(SECONDS)
    for writer in writers:
        writer.close()
    return "8 unread lists of 1,000 waits of 60 KB"


@asynccontextmanager
async def hostile_servers() -> AsyncIterator[Sequence[HostileServer]]:
    """Servers of hostile answers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(hostile_server()) for _ in range(ORIGINS)]


async def _until_answered(daemon: MeasuredDaemon, count: int) -> None:
    """Waits until each wait was poked, and says how far that is. Raises TimeoutError."""
    async with asyncio.timeout(30 + count / ANSWERS_PER_SECOND):
        while (pokes := (await daemon.metrics()).total(POKES)) < count:
            say(f"{pokes:,.0f} of {count:,} answers; the daemon has used {daemon.usage.cpu:.1f} s of CPU")
            await asyncio.sleep(5.0)


async def answers(daemon: MeasuredDaemon, count: int, seed: int) -> str:
    """Waits on hostile answers, each poked once."""
    async with hostile_servers() as servers:
        await daemon.submit(
            {
                "kind": "http",
                "params": {"endpoint": f"{servers[n % ORIGINS].url}/{seed}-{n}", "request_timeout": 2, **CONDITIONS},
                "poke_interval": 3600,
            }
            for n in range(count)
        )  # fmt: skip
        await _until_answered(daemon, count)
        kinds = sum((server.kinds for server in servers), start=type(servers[0].kinds)())
        ended = [wait async for wait in daemon.client.each({}) if wait["state"] != "waiting"]
    if ended:
        raise RuntimeError(f"{len(ended)} waits ended, the first of them: {ended[0]}")
    return f"{kinds.total():,} answers of {len(kinds)} kinds from seed {seed}, no wait ended"


ATTACKS: Mapping[str, Callable[[MeasuredDaemon], Awaitable[str]]] = {
    "idle": idle,
    "bodies": bodies,
    "members": members,
    "query": query,
    "lists": lists,
}
ALL = (*ATTACKS, "answers")


async def measure(names: Sequence[str], count: int, seed: int) -> list[Figure]:
    """The figures of these attacks, each against a new daemon."""
    figures: list[Figure] = []
    for name in names:
        with TemporaryDirectory(prefix="waitd-hostile-") as folder:
            file = Path(folder) / "lite.db"
            sqlite3.connect(file).close()
            turns = Path(folder) / "turns"
            environment = {"AIRFLOW_CONN_LITE": f"sqlite:///{file}", VARIABLE: str(turns)}
            python = (sys.executable, str(HERE / "loop_turns.py"))
            async with running_daemon(python=python, environment=environment) as daemon:
                figures += await watched(name, daemon, turns, ATTACKS.get(name, lambda each: answers(each, count, seed)))  # fmt: skip
    return figures


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=ALL, help="run this attack (default: all)")
    parser.add_argument(
        "--count", type=int, default=10_000, help="how many hostile answers (default: 10,000)"
    )
    parser.add_argument(
        "--seed", type=int, default=time.time_ns(), help="repeats the answers of an earlier run"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    facts = machine() | {"daemon_core": sorted(CORES.measured), "other_cores": sorted(CORES.others)}
    use_other_cores()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    figures = uvloop.run(measure(options.only or ALL, options.count, options.seed))
    print_figures(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
