"""A job server that does what a test says, and a waitd that Airflow's tasks find by a connection."""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import web
from airflow_runs import Run
from daemon import Daemon

from waitd.bench.airflow.instance import Airflow


class JobServer:
    """`/jobs/NAME`: RUNNING until a test ends it, and then the result that it says. Every job that begins so ends with it."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        self._ends: dict[str, dict[str, Any]] = {}

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked[name] += 1
        for beginning, end in self._ends.items():
            if name.startswith(beginning):
                return web.json_response({"job": name, **end})
        return web.json_response({"status": "RUNNING"}, status=202)

    def succeed(self, beginning: str) -> None:
        self._ends[beginning] = {"status": "SUCCEEDED"}

    def fail(self, beginning: str, why: str) -> None:
        self._ends[beginning] = {"status": "FAILED", "why": why}


class Scene:
    """Airflow, waitd and the job server."""

    def __init__(
        self, airflow: Airflow, waitd: Daemon, jobs: JobServer, client: aiohttp.ClientSession
    ) -> None:
        self.airflow = airflow
        self.waitd = waitd
        self.jobs = jobs
        self._client = client

    async def run(self, dag_id: str, **conf: Any) -> Run:
        return await asyncio.to_thread(Run, self.airflow, dag_id, conf)

    async def point_airflow(self, url: str) -> None:
        """Makes `waitd_default` the connection to a daemon."""
        host, _, port = url.removeprefix("http://").partition(":")
        connection = {
            "connection_id": "waitd_default", "conn_type": "waitd", "host": host, "port": int(port),
            "extra": '{"airflow_conn_id": "airflow"}',
        }  # fmt: skip
        await asyncio.to_thread(self.airflow.request, "DELETE", "/api/v2/connections/waitd_default")
        status, answer = await asyncio.to_thread(
            self.airflow.request, "POST", "/api/v2/connections", connection
        )
        assert status == 201, answer

    async def waits(self, run: Run, **query: str) -> list[dict[str, Any]]:
        """The waits of a run, oldest first."""
        labels = {"label.dag_id": run.dag_id, "label.run_id": run.run_id, **query}
        async with self._client.get(f"{self.waitd.url}/v1/waits", params=labels) as response:
            assert response.status == 200, await response.text()
            found: list[dict[str, Any]] = (await response.json())["waits"]
            return found[::-1]

    async def wait_until(
        self, run: Run, state: str, count: int = 1, seconds: float = 180
    ) -> list[dict[str, Any]]:
        """The waits of a run in this state, once there are so many."""
        found: list[dict[str, Any]] = []
        for _ in range(int(seconds / 0.2)):
            found = await self.waits(run, state=state)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.2)
        raise AssertionError(f"{found}\n{self.waitd.log[-10:]}")
