"""A job server that the test controls, and an Airflow whose tasks are connected to a daemon."""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import web
from airflow_runs import DagRun
from daemon import Daemon

from waitd.bench.airflow.instance import Airflow


class ControlledJobServer:
    """A job server. `/jobs/NAME` is RUNNING until the test ends all jobs with that prefix."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: Counter[str] = Counter()
        self._results: dict[str, dict[str, Any]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.requests[name] += 1
        for prefix, result in self._results.items():
            if name.startswith(prefix):
                return web.json_response({"job": name, **result})
        return web.json_response({"status": "RUNNING"}, status=202)

    def succeed(self, prefix: str) -> None:
        self._results[prefix] = {"status": "SUCCEEDED"}

    def fail(self, prefix: str, why: str) -> None:
        self._results[prefix] = {"status": "FAILED", "why": why}


async def connect_airflow(airflow: Airflow, url: str) -> None:
    """Makes `waitd_default` the connection to the daemon at this URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = {
        "connection_id": "waitd_default", "conn_type": "waitd", "host": host, "port": int(port),
        "extra": '{"airflow_conn_id": "airflow"}',
    }  # fmt: skip
    await asyncio.to_thread(airflow.request, "DELETE", "/api/v2/connections/waitd_default")
    status, answer = await asyncio.to_thread(airflow.request, "POST", "/api/v2/connections", connection)
    assert status == 201, answer


class ProviderScene:
    """Airflow, a daemon that its tasks use, and the job server."""

    def __init__(
        self, airflow: Airflow, waitd: Daemon, jobs: ControlledJobServer, client: aiohttp.ClientSession
    ) -> None:
        self.airflow = airflow
        self.waitd = waitd
        self.jobs = jobs
        self._client = client

    async def run(self, dag_id: str, **conf: Any) -> DagRun:
        return await asyncio.to_thread(DagRun, self.airflow, dag_id, conf)

    async def waits(self, run: DagRun, **query: str) -> list[dict[str, Any]]:
        """The waits of a run, oldest first."""
        labels = {"label.dag_id": run.dag_id, "label.run_id": run.run_id, **query}
        async with self._client.get(f"{self.waitd.url}/v1/waits", params=labels) as response:
            assert response.status == 200, await response.text()
            newest_first: list[dict[str, Any]] = (await response.json())["waits"]
            return newest_first[::-1]

    async def wait_until(
        self, run: DagRun, state: str, count: int = 1, seconds: float = 180
    ) -> list[dict[str, Any]]:
        """Waits until so many waits of a run are in this state, and returns them."""
        waits: list[dict[str, Any]] = []
        for _ in range(int(seconds / 0.2)):
            waits = await self.waits(run, state=state)
            if len(waits) >= count:
                return waits
            await asyncio.sleep(0.2)
        raise AssertionError(f"{waits}\n{self.waitd.log[-10:]}")
