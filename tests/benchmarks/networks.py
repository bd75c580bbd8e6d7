"""What pokes cost over TLS, to many hosts, by a proxy, and where the server closes connections.

`python tests/benchmarks/networks.py`. It starts nginx with a private CA, and a daemon that has
one core for itself. CPU time is the daemon's, from the second round of pokes on. The row of many
hosts pokes each every 6 s instead of every 60 s: nginx keeps connections for 75 s in both cases, so
the work of a poke is the same.
"""

import asyncio
from typing import NamedTuple

import uvloop
from forward_proxy import small_proxy
from lab import CORES, POKES, MeasuredDaemon, running_daemon, say, sensor_wait, use_other_cores
from nginx import Nginx, running_nginx

from waitd.bench.machine import UsageSpan

HOSTS, HOSTS_INTERVAL = 2000, 6.0
#: Waits of the other rows, and how often each is poked.
WAITS, INTERVAL = 200, 0.1
SECONDS = 10.0
MIB = 1024 * 1024


class Row(NamedTuple):
    """CPU a poke in microseconds, and the growth of the daemon's memory in bytes."""

    cpu: float
    rss: int


async def measure(
    nginx: Nginx, server: str, *, hosts: int = 1, waits: int = WAITS, every: float, proxy: str | None = None
) -> Row:
    """Pokes hosts of a server of nginx with a new daemon, and measures from the second round on."""
    say(f"{server}: {waits} waits on {hosts} hosts, poked every {every} s")
    environment = {"SSL_CERT_FILE": str(nginx.authority)}
    if proxy is not None:
        environment["HTTPS_PROXY"] = proxy
    async with running_daemon(environment=environment, per_host_concurrency=1000) as daemon:
        before = daemon.usage.rss
        bodies = (
            sensor_wait(f"{nginx.url(server, n % hosts)}/jobs/{n}", poke_interval=every) for n in range(waits)
        )
        await daemon.submit(bodies)
        await daemon.until_poked(2 * waits)
        cpu = await cpu_per_poke(daemon, max(SECONDS, 3 * every))
        return Row(cpu, await daemon.settled_rss(3.0) - before)


async def cpu_per_poke(daemon: MeasuredDaemon, seconds: float) -> float:
    """The daemon's CPU a poke over so many seconds, in microseconds."""
    pokes, usage = (await daemon.metrics()).total(POKES), daemon.usage
    await asyncio.sleep(seconds)
    pokes = (await daemon.metrics()).total(POKES) - pokes
    return UsageSpan.between(usage, daemon.usage).cpu / pokes * 1e6


async def main() -> None:
    """Prints the figures."""
    use_other_cores()
    async with running_nginx(CORES.others) as nginx:
        plain = await measure(nginx, "http", every=INTERVAL)
        tls = await measure(nginx, "https", every=INTERVAL)
        print(f"kept-alive HTTP               {plain.cpu:,.0f} µs of CPU a poke")
        print(f"kept-alive HTTPS              {tls.cpu:,.0f} µs, {tls.cpu / plain.cpu:.2f} x HTTP")
        async with small_proxy() as proxy:  # Debian's tinyproxy cannot resolve nginx's hosts
            proxy.resolve = lambda _: "127.0.0.1"
            tunnel = await measure(nginx, "https", every=INTERVAL, proxy=proxy.url)
            opened = len(proxy.heads)
        print(
            f"HTTPS through a CONNECT proxy {tunnel.cpu:,.0f} µs, {tunnel.cpu / tls.cpu:.2f} x direct; {opened} tunnels"
        )
        for version in ("1.2", "1.3"):
            full = await measure(nginx, f"{version} full", every=INTERVAL)
            resumed = await measure(nginx, f"{version} resumed", every=INTERVAL)
            counts = nginx.resumed(f"{version} resumed")
            full_handshakes = max(0, counts["."] - WAITS)  # the first round has no sessions
            share = counts["r"] / (counts["r"] + full_handshakes)
            print(
                f"TLS {version}, server closes       {resumed.cpu:,.0f} µs, {resumed.cpu / full.cpu:.2f} x full handshakes; {share:.1%} resumed from the second round on"
            )
        same = await measure(nginx, "http", hosts=HOSTS, waits=HOSTS, every=HOSTS_INTERVAL)
        many = await measure(nginx, "https", hosts=HOSTS, waits=HOSTS, every=HOSTS_INTERVAL)
        print(f"{HOSTS:,} HTTPS hosts             {many.cpu:,.0f} µs, {many.cpu / same.cpu:.2f} x HTTP hosts")
        print(
            f"{HOSTS:,} idle connections        {many.rss / MIB:.0f} MiB with TLS, {same.rss / MIB:.0f} without"
        )


if __name__ == "__main__":
    uvloop.run(main())
