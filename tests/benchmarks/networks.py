"""What pokes cost over TLS, to many hosts, by a proxy, by DNS, and where servers close connections.

`python tests/benchmarks/networks.py`. It starts nginx with a private CA, tinyproxy, a small DNS
server (dnslib, in this process), and a daemon that has one core for itself. CPU time is the
daemon's, from the second round of pokes on. The rows of many hosts poke each every 6 s instead of
every 60 s: nginx keeps connections for 75 s in both cases, so the work of a poke is the same. The
row `hosts` also pokes every 2 s: a core that mostly sleeps counts its wakings as work of the
daemon. What TLS costs is the difference to plain hosts, which are woken for as often; what any
program costs is the floor (`floor.py`), which is woken as often and does nothing else.
`--old REVISION` measures each row with that revision, too, before the working tree.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forward_proxy import tinyproxy
from lab import CORES, POKES, MeasuredDaemon, running_daemon, say, sensor_wait, use_other_cores
from name_server import name_server
from nginx import Nginx, running_nginx
from revisions import Revision, copy_revision

from waitd.bench.children import ChildFailed, child
from waitd.bench.machine import UsageSpan

WITH_NAME_SERVER = str(Path(__file__).parents[1] / "e2e" / "daemon_with_name_server.py")
MIB = 1024 * 1024


class Sizes(NamedTuple):
    """How much is poked: waits on one host, waits on hosts of their own, and their intervals."""

    waits: int = 200
    interval: float = 0.1
    hosts: int = 2000
    hosts_interval: float = 6.0
    busy_interval: float = 2.0
    seconds: float = 10.0


class Figure(NamedTuple):
    """One result."""

    name: str
    value: float
    unit: str = "µs"


class Measured(NamedTuple):
    """CPU a poke in microseconds, how often the loop slept a poke, growth of the memory in MiB."""

    cpu: float
    sleeps: float
    rss: float


class Bench(NamedTuple):
    """What the rows share. `revision` is None for the working tree."""

    nginx: Nginx
    sizes: Sizes
    folder: Path
    revision: Revision | None = None

    async def measure(
        self,
        server: str,
        urls: Callable[[int], str] | None = None,
        *,
        many: bool = False,
        interval: float | None = None,
        **environment: str,
    ) -> Measured:
        """Pokes a server of nginx with a new daemon, and measures from the second round on.

        Args:
            server: a key of `nginx.SERVERS`.
            urls: the URL of the n-th wait's host; default: the server's n-th host, or its first.
            many: whether each wait has a separate host.
            interval: seconds between its pokes; default: those of `sizes`.
            environment: variables of the daemon.
        """
        sizes = self.sizes
        waits, every = (sizes.hosts, sizes.hosts_interval) if many else (sizes.waits, sizes.interval)
        every = interval or every
        say(f"{server}: {waits} waits, poked every {every} s")
        variables = {"SSL_CERT_FILE": str(self.nginx.authority), **environment}
        if self.revision is not None:
            variables |= self.revision.environment
        start = (
            (sys.executable, WITH_NAME_SERVER)
            if "TEST_NAME_SERVER" in environment
            else (sys.executable, "-m")
        )
        urls = urls or (lambda n: self.nginx.url(server, n if many else 0))
        async with running_daemon(python=start, environment=variables, per_host_concurrency=1000) as daemon:
            before = daemon.usage.rss
            await daemon.submit(sensor_wait(f"{urls(n)}/jobs/{n}", poke_interval=every) for n in range(waits))
            await daemon.until_poked(2 * waits)
            cpu, sleeps = await cost_per_poke(daemon, max(sizes.seconds, 3 * every), waits)
            return Measured(cpu, sleeps, (await daemon.settled_rss(min(3.0, sizes.seconds)) - before) / MIB)

    async def floor(self, server: str, interval: float) -> Measured:
        """The same of `floor.py`, without its memory."""
        ca = "-" if server == "http" else str(self.nginx.authority)
        seconds = max(self.sizes.seconds, 3 * interval)
        say(f"{server}: the floor, every {interval} s")
        arguments = [self.nginx.ports[server], ca, self.sizes.hosts, interval, seconds]
        async with child(
            [str(Path(__file__).with_name("floor.py")), *map(str, arguments)],
            log=self.folder / "floor",
            pipe_output=True,
            cores=CORES.measured,
            python=[sys.executable],
        ) as process:
            output, _ = await process.communicate()
        if process.returncode:
            raise ChildFailed("The floor ended", self.folder / "floor")
        requests, cpu, sleeps = map(float, output.split())
        return Measured(cpu / requests * 1e6, sleeps / requests, nan)


async def cost_per_poke(daemon: MeasuredDaemon, seconds: float, least: int) -> tuple[float, float]:
    """The daemon's CPU a poke in microseconds, and how often its loop slept a poke.

    It is measured over so many seconds, and so many pokes at least.
    """
    before, usage, slept = (await daemon.metrics()).total(POKES), daemon.usage, sleeps(daemon)
    await asyncio.sleep(seconds)
    await daemon.until_poked(int(before) + least)
    pokes = (await daemon.metrics()).total(POKES) - before
    cpu = UsageSpan.between(usage, daemon.usage).cpu
    return cpu / pokes * 1e6, (sleeps(daemon) - slept) / pokes


def sleeps(daemon: MeasuredDaemon) -> int:
    """How often the main thread, that of the loop, has waited for something."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))


def ratio(value: float, other: float) -> float:
    """Their ratio; nan if the other is too small to measure."""
    return value / other if other else nan


async def kept(bench: Bench) -> AsyncIterator[Figure]:
    """Connections that the server keeps."""
    plain, tls = await bench.measure("http"), await bench.measure("https")
    yield Figure("kept-alive HTTP", plain.cpu)
    yield Figure("kept-alive HTTPS", tls.cpu)
    yield Figure("kept-alive HTTPS / HTTP", ratio(tls.cpu, plain.cpu), "x")


async def proxy(bench: Bench) -> AsyncIterator[Figure]:
    """The same through a tunnel of tinyproxy, which looks this machine's name up."""
    url = bench.nginx.own_url("https")
    direct = await bench.measure("https", lambda _: url)
    async with tinyproxy(bench.folder) as running:
        tunnel = await bench.measure("https", lambda _: url, HTTPS_PROXY=running.url, NO_PROXY="")
        yield Figure("HTTPS through tinyproxy", tunnel.cpu)
        yield Figure("through tinyproxy / direct", ratio(tunnel.cpu, direct.cpu), "x")
        yield Figure("tunnels", running.count("CONNECT"), "")


async def closing(bench: Bench) -> AsyncIterator[Figure]:
    """A server that closes each connection after its answer."""
    for version in ("1.2", "1.3"):
        name = f"{version} resumed"
        earlier = bench.nginx.resumed(name)
        full, resumed = await bench.measure(f"{version} full"), await bench.measure(name)
        counts = bench.nginx.resumed(name) - earlier
        full_handshakes = max(0, counts["."] - bench.sizes.waits)  # the first round has no sessions
        yield Figure(f"TLS {version}, server closes", resumed.cpu)
        yield Figure(f"TLS {version}, resumed / full handshakes", ratio(resumed.cpu, full.cpu), "x")
        share = counts["r"] / max(1, counts["r"] + full_handshakes)
        yield Figure(f"TLS {version}, resumed from the second round on", 100 * share, "%")


async def hosts(bench: Bench) -> AsyncIterator[Figure]:
    """One wait on each of many hosts."""
    for interval in (bench.sizes.busy_interval, bench.sizes.hosts_interval):
        plain = await bench.measure("http", many=True, interval=interval)
        tls = await bench.measure("https", many=True, interval=interval)
        floor = await bench.floor("https", interval)
        name = f"{bench.sizes.hosts:,} HTTPS hosts, every {interval:g} s"
        yield Figure(name, tls.cpu)
        yield Figure(f"{name}: sleeps a poke", tls.sleeps, "")
        yield Figure(f"{name}: floor", floor.cpu)
        yield Figure(f"{name}: floor, sleeps a request", floor.sleeps, "")
        yield Figure(f"{name} - HTTP hosts", tls.cpu - plain.cpu)
        yield Figure(f"{name} / HTTP hosts", ratio(tls.cpu, plain.cpu), "x")
    yield Figure(f"{bench.sizes.hosts:,} idle connections with TLS", tls.rss, "MiB")
    yield Figure(f"{bench.sizes.hosts:,} idle connections without", plain.rss, "MiB")


async def names(bench: Bench) -> AsyncIterator[Figure]:
    """Hosts of a server that closes, found by DNS: names that may be kept for an hour, or not."""
    port = bench.nginx.ports["closing"]
    records = {f"h{n}.names.test": ["127.0.0.1"] for n in range(bench.sizes.hosts)}
    cpu = {}
    for ttl in (3600, 0):
        async with name_server(records=records, ttl=ttl) as server:
            measured = await bench.measure(
                "closing",
                lambda n: f"http://h{n}.names.test:{port}",
                many=True,
                TEST_NAME_SERVER=server.address,
            )
            cpu[ttl] = measured.cpu
            queries = sum(count for name, count in server.queries.items() if name.endswith(" A"))
        yield Figure(f"new connections, names with a TTL of {ttl:,} s", measured.cpu)
        yield Figure(f"look-ups of {bench.sizes.hosts:,} names with a TTL of {ttl:,} s", queries, "")
    yield Figure("names that expire / names that do not", ratio(cpu[0], cpu[3600]), "x")


ROWS = {row.__name__: row for row in (kept, proxy, closing, hosts, names)}


async def run(sizes: Sizes, rows: Sequence[str], old: str | None = None) -> dict[str, list[float]]:
    """Prints the figures; returns them by name, those of the old revision first."""
    results: dict[str, list[float]] = {}
    async with running_nginx(CORES.others) as nginx, AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="waitd-networks-")))
        revisions = [None] if old is None else [copy_revision(old, folder / "old", sys.executable), None]
        for row in rows:
            for revision in revisions:
                async for figure in ROWS[row](Bench(nginx, sizes, folder, revision)):
                    values = results.setdefault(figure.name, [])
                    values.append(figure.value)
                    by = revision.name if revision else "working tree"
                    compared = f"; {ratio(figure.value, values[0]):.2f} x {old}" if len(values) > 1 else ""
                    print(
                        f"{figure.name:50} {figure.value:10,.2f} {figure.unit:4} {by}{compared}", flush=True
                    )
    return results


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", help="a revision to compare with")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="the rows to measure")
    parser.add_argument("--hosts", type=int, default=Sizes().hosts, help="the number of many hosts")
    options = parser.parse_args()
    use_other_cores()
    uvloop.run(run(Sizes(hosts=options.hosts), options.only, options.old))


if __name__ == "__main__":
    main()
