"""Measures how fast outcomes are delivered to each sink.

    python tests/benchmarks/sinks.py                             every sink
    python tests/benchmarks/sinks.py redis nats --outcomes 5000  two sinks, fewer outcomes

The real store (SQLite on this disk) and the real deliverer run in this process, on one core; the
broker has the others. First all waits end at once: deliveries per second and their CPU time. Then
they end at a steady rate (`--paced`): the time from an outcome to its delivery.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "sinks")]

import structlog  # noqa: E402 - after the path
import uvloop  # noqa: E402
from broker_servers import RedisServer, has_rabbit  # noqa: E402
from brokers import BROKERS  # noqa: E402
from fakes import FakeConnections  # noqa: E402
from installation import install_apt_package  # noqa: E402
from lab import CORES, running_target  # noqa: E402
from outbox import RETRY_DELAYS, Outbox, outbox  # noqa: E402

from waitd.bench.jobs import job_path  # noqa: E402
from waitd.core.waits.delivery import AfterAttempt, DeliveryId  # noqa: E402
from waitd.core.waits.wait import WaitId  # noqa: E402
from waitd.ports import OutboxItem  # noqa: E402
from waitd.sinks.webhook import WebhookSink  # noqa: E402

#: Waits that are inserted, or ended, at a time.
CHUNK = 1000


@asynccontextmanager
async def running_sink(kind: str, directory: Path) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """An open sink of this kind, and the parameters of a wait that uses it."""
    connections: Any = FakeConnections()
    if kind == "webhook":
        secret = "whsec_" + "c2VjcmV0" * 4
        async with (
            running_target() as receiver,  # a job server accepts every POST
            WebhookSink(connections, secret=secret, secret_headers=()) as webhook,
        ):
            yield webhook, {"kind": kind, "url": receiver.urls[0] + job_path("succeed", 0, "callback")}
        return
    broker_class, server_class = BROKERS[kind]
    server = server_class(directory / kind)
    if isinstance(server, RedisServer):
        server.fsync = "everysec"  # its default
    try:
        os.sched_setaffinity(0, CORES.others)  # the server's processes inherit it
        server.start()
        os.sched_setaffinity(0, CORES.measured)
        broker = broker_class(server)
        connections.by_id["broker"] = broker.connection(server.port)
        await broker.create_destination("benchmark")
        async with broker.open_sink(connections) as sink:
            yield sink, {"kind": kind, **broker.params("benchmark", server.port)}
    finally:
        server.end()


class DeliveryTimes:
    """Records the seconds of each delivery, from the outcome until its result is on disk."""

    def __init__(self, running: Outbox, sink: Any) -> None:
        self.delays: list[float] = []
        self.created: dict[DeliveryId, float] = {}
        self.refused = 0
        self._deliver, self._save = sink.deliver, running.store.save_attempt
        sink.deliver = self.deliver
        running.store.save_attempt = self.save  # type: ignore[method-assign]  # wrapped to be measured

    async def deliver(self, target: Any, item: OutboxItem) -> Any:
        self.created[item.id] = item.created_at
        return await self._deliver(target, item)

    async def save(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        await self._save(delivery_id, after, at)
        if after.next_attempt_at is None:
            self.delays.append(time.time() - self.created.pop(delivery_id))
        else:
            self.refused += 1

    async def until_delivered(self, count: int) -> None:
        while len(self.delays) < count:  # noqa: ASYNC110 - an event would add to what is measured
            await asyncio.sleep(0.005)


async def insert(running: Outbox, count: int, sink: dict[str, Any]) -> list[WaitId]:
    ids: list[WaitId] = []
    while len(ids) < count:
        ids += await running.add(min(CHUNK, count - len(ids)), sink)
    return ids


async def at_once(running: Outbox, times: DeliveryTimes, ids: list[WaitId]) -> str:
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        await asyncio.gather(*(running.finish(wait_id, time.time()) for wait_id in chunk))
    await times.until_delivered(len(ids))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return f"{len(ids) / wall:7,.0f} /s {cpu / len(ids) * 1e6:6.0f} µs CPU {times.refused:5} refused"


async def paced(running: Outbox, times: DeliveryTimes, ids: list[WaitId], rate: float) -> str:
    times.delays.clear()
    start = time.perf_counter()
    for number, wait_id in enumerate(ids):
        late = start + number / rate - time.perf_counter()
        if late > 0:
            await asyncio.sleep(late)
        running.spawn(running.finish(wait_id, time.time()))
    await times.until_delivered(len(ids))
    cuts = statistics.quantiles(times.delays, n=100)
    return f"at {rate:,.0f}/s: p50 {cuts[49] * 1e3:6.1f} ms, p99 {cuts[98] * 1e3:6.1f} ms"


async def measure(kind: str, outcomes: int, rate: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        async with (
            running_sink(kind, path) as (sink, params),
            outbox(
                path / "waitd.db",
                {kind: sink},
                retry_delays=RETRY_DELAYS,
                attempt_timeout=15,
                with_other_sink=False,
            ) as running,
        ):
            times = DeliveryTimes(running, sink)
            ids = await insert(running, outcomes, params)
            first = await at_once(running, times, ids)
            ids = await insert(running, min(outcomes, int(rate * 5)), params)
            print(f"{kind:8} {first}   {await paced(running, times, ids, rate)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sinks", nargs="*", default=["webhook", *BROKERS])
    parser.add_argument("--outcomes", type=int, default=50_000)
    parser.add_argument("--paced", type=float, default=1000.0, help="outcomes per second in the second part")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the brokers
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    os.sched_setaffinity(0, CORES.measured)
    for kind in arguments.sinks:
        if kind == "amqp" and (why_not := install_apt_package("rabbitmq-server", has_rabbit)):
            print(f"{kind:8} {why_not}")
            continue
        uvloop.run(measure(kind, arguments.outcomes, arguments.paced))


if __name__ == "__main__":
    main()
