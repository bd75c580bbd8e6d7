"""The cost of the Airflow sweep with 100,000 parked tasks: CPU, longest turn of the loop, queries.

    python tests/benchmarks/airflow_sweep.py                 100,000 waits, four sweeps
    python tests/benchmarks/airflow_sweep.py --waits 10000

The store is real. Airflow is a small server in a child process that returns task instances of
realistic size, all of them parked.
"""

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from uuid import UUID

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "sinks")]

from aiohttp import web  # noqa: E402 - after the path
from authorized import FakeResolver, authorized_connections  # noqa: E402
from daemon import serving  # noqa: E402
from figures import Figure, print_figures  # noqa: E402

from waitd.bench.machine import machine  # noqa: E402
from waitd.core.connections.connection import Connection  # noqa: E402
from waitd.core.waits.wait import WaitSpec  # noqa: E402
from waitd.outgoing import EgressGuard  # noqa: E402
from waitd.ports import NewWait  # noqa: E402
from waitd.sinks.airflow.api import AirflowApis  # noqa: E402
from waitd.sinks.airflow.sweep import AirflowSweep  # noqa: E402
from waitd.stores import Store, open_database  # noqa: E402

BATCH = 1000
#: Fills a task instance to about 2 KB of JSON, its size in Airflow 3.3.
FILLING = {
    "rendered_fields": {"endpoint": "/jobs/42", "filling": "x" * 1200},
    "note": None,
    "dag_version": {"bundle": "dags"},
}
TICK = 0.001


def ti_id(index: int) -> str:
    return str(UUID(int=index, version=4))


async def _airflow(pipe: Pipe) -> None:
    """Lists the task instances of the requested runs, a hundred each; all are parked."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        runs = [int(run.removeprefix("run-")) for run in body["dag_run_ids"]]
        indices = [index for run in sorted(runs) for index in range(run * 100, run * 100 + 100)]
        page = indices[body["page_offset"] :][: body["page_limit"]]
        instances = [
            {"id": ti_id(index), "state": "awaiting_input", "map_index": index % 100, **FILLING}
            for index in page
        ]
        return web.json_response({"task_instances": instances, "total_entries": len(indices)})

    async with serving("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list", answer) as url:
        pipe.send(url)
        await asyncio.Event().wait()


def serve(pipe: Pipe) -> None:
    asyncio.run(_airflow(pipe))


class TimedStore:
    """A store that records the seconds of its queries."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seconds: dict[str, list[float]] = {"airflow_connections": [], "find_airflow_waits": []}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self.seconds:
            return method

        async def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return await method(*arguments)
            finally:
                self.seconds[name].append(time.perf_counter() - started)

        return timed


async def fill(store: Store, count: int) -> None:
    for start in range(0, count, BATCH):
        await store.insert([_wait(index) for index in range(start, min(start + BATCH, count))])


def _wait(index: int) -> NewWait:
    sink = {
        "kind": "airflow", "conn_id": "airflow", "mode": "resume", "dag_id": "etl", "run_id": f"run-{index // 100}", "task_id": "wait",
        "map_index": index % 100, "ti_id": ti_id(index), "try_number": 1,
    }  # fmt: skip
    params = {
        "http_conn_id": "jobs",
        "endpoint": f"/jobs/{index}",
        "success_when": "body.status == 'SUCCEEDED'",
    }
    return NewWait("default", WaitSpec("http", params, 60.0, 604800.0, sinks=(sink,)))


@asynccontextmanager
async def running_sweep(directory: str, waits: int) -> AsyncIterator[tuple[AirflowSweep, TimedStore]]:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    store = Store(
        await open_database(f"sqlite+aiosqlite:///{Path(directory) / 'waitd.db'}"),
        destination_of=lambda *_: "somewhere",
    )
    try:
        await fill(store, waits)
        resolver = FakeResolver(Connection("airflow", "airflow", host=ours.recv(), password="a.static.token"))
        async with (
            authorized_connections(resolver, EgressGuard()) as connections,
            AirflowApis(connections, EgressGuard(), time.time) as apis,
        ):
            timed: Any = TimedStore(store)
            yield AirflowSweep(timed, apis), timed
    finally:
        await store.close()
        server.kill()


async def record_turns(turns: list[float]) -> None:
    """Records the CPU seconds of the loop's thread between two turns of a ticker."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK)
        turns.append(time.thread_time() - before)


async def measure(waits: int, sweeps: int) -> Sequence[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        async with running_sweep(directory, waits) as (sweep, store):
            await sweep.sweep()
            turns: list[float] = []
            ticker = asyncio.create_task(record_turns(turns))
            cpu, started = time.process_time(), time.perf_counter()
            for _ in range(sweeps):
                await sweep.sweep()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - started
            ticker.cancel()
    figures = [
        Figure("a sweep, wall time", wall / sweeps * 1000, "ms"),
        Figure("a sweep, CPU of the process, threads of the store included", cpu / sweeps * 1000, "ms"),
        Figure("longest turn of the loop, CPU", max(turns) * 1000, "ms", at_most=5),
    ]
    for name, seconds in store.seconds.items():
        figures.append(Figure(f"store: {name}, longest", max(seconds) * 1000, "ms"))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--waits", type=int, default=100_000)
    parser.add_argument("--sweeps", type=int, default=4)
    options = parser.parse_args()
    figures = asyncio.run(measure(options.waits, options.sweeps))
    print_figures(figures, machine() | vars(options), as_json=False)


if __name__ == "__main__":
    main()
