"""DAG runs through Airflow's API, and waits whose outcomes go to their tasks."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
from daemon import Daemon, get_wait, submit

from waitd.bench.airflow.instance import HEARTBEAT, Airflow

PARKED = {"awaiting_input", "deferred"}
ENDED = {"success", "failed", "skipped", "upstream_failed"}


class DagRun:
    """Starts a run of a DAG, and reads its tasks through Airflow's API."""

    def __init__(self, airflow: Airflow, dag_id: str, conf: dict[str, Any] | None = None) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = f"test-{uuid4().hex[:12]}"
        body = {"dag_run_id": self.run_id, "logical_date": None, "conf": conf or {}}
        status, answer = airflow.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        assert status == 200, answer

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request below the path of the run, which must succeed, and returns the answer."""
        status, answer = await asyncio.to_thread(self.airflow.request, method, self.path + path, body)
        assert status in {200, 201, 204}, (path, status, answer)
        return answer

    async def state(self) -> str:
        run: dict[str, str] = await self.ask("GET", "")
        return run["state"]

    async def task(self, task_id: str = "wait", map_index: int = -1) -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask("GET", f"/taskInstances/{task_id}/{map_index}")
        return answer

    async def xcom(self, key: str = "return_value", task_id: str = "wait", map_index: int = -1) -> Any:
        path = f"/taskInstances/{task_id}/xcomEntries/{key}?map_index={map_index}"
        return (await self.ask("GET", path))["value"]

    async def until(
        self, states: set[str], task_id: str = "wait", map_index: int = -1, seconds: float = 180
    ) -> dict[str, Any]:
        """Waits until the task instance is in one of these states, and returns it."""
        instance: dict[str, Any] = {}
        for _ in range(int(seconds / 0.3)):
            path = f"{self.path}/taskInstances/{task_id}/{map_index}"  # a mapped one is created later
            status, instance = await asyncio.to_thread(self.airflow.request, "GET", path)
            if status == 200 and instance["state"] in states:
                return instance
            await asyncio.sleep(0.3)
        raise AssertionError(f"{task_id} is {instance}\n{self.airflow.logs()}")

    async def parked(self, task_id: str = "wait", map_index: int = -1) -> dict[str, Any]:
        return await self.until(PARKED, task_id, map_index)

    async def ended(self, task_id: str = "wait", map_index: int = -1, seconds: float = 180) -> dict[str, Any]:
        return await self.until(ENDED, task_id, map_index, seconds)

    async def clear(self, task_id: str = "wait") -> None:
        """Clears the task, as a user does."""
        body = {
            "dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False, "reset_dag_runs": False,
        }  # fmt: skip
        path = f"/api/v2/dags/{self.dag_id}/clearTaskInstances"
        status, answer = await asyncio.to_thread(self.airflow.request, "POST", path, body)
        assert status == 200, answer


def airflow_sink(mode: str, instance: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The sink that delivers an outcome to a task instance."""
    names = ("dag_id", "task_id", "map_index", "try_number")
    heartbeat = {"min_heartbeat_interval": HEARTBEAT} if mode == "resume" else {}
    return {
        "kind": "airflow",
        "conn_id": "airflow",
        "mode": mode,
        "run_id": instance["dag_run_id"],
        "ti_id": instance["id"],
        **{name: instance[name] for name in names},
        **heartbeat,
        **fields,
    }


class WaitClient:
    """Submits waits for jobs to a daemon, and reads them."""

    def __init__(self, waitd: Daemon, client: aiohttp.ClientSession, jobs_url: str) -> None:
        self.waitd = waitd
        self._client = client
        self._jobs_url = jobs_url

    async def submit(
        self, *sinks: dict[str, Any], outcome: str = "success", seconds: float = 0, **fields: Any
    ) -> str:
        """Submits a wait whose job ends with `outcome` after `seconds`, and returns its id."""
        duration = 3600 if outcome == "timeout" else seconds
        body = {
            "kind": "http",
            "params": {
                "endpoint": f"{self._jobs_url}/jobs/{uuid4().hex}?for={duration}",
                "success_when": "false" if outcome == "failed" else "body.status == 'SUCCEEDED'",
                "failure_when": "body.status == 'SUCCEEDED'" if outcome == "failed" else "false",
                "result": "{'rows': 3, 'parts': ['a', 'b']}",
            },
            "poke_interval": 0.5,
            "timeout": 1 if outcome == "timeout" else 600,
            "sinks": list(sinks),
            **fields,
        }
        return await submit(self._client, self.waitd, body)

    async def wait(self, wait_id: str) -> dict[str, Any]:
        return await get_wait(self._client, self.waitd, wait_id)

    async def ended(self, wait_id: str) -> dict[str, Any]:
        """Waits until the wait has ended, and returns it."""
        wait = await get_wait(self._client, self.waitd, wait_id, 30)
        assert wait["state"] != "waiting", wait
        return wait

    async def deliveries(self, wait_id: str) -> list[dict[str, Any]]:
        deliveries: list[dict[str, Any]] = (await self.wait(wait_id))["deliveries"]
        return deliveries

    async def settled(self, wait_id: str, seconds: float = 180) -> dict[str, Any]:
        """Waits until the newest delivery is delivered or dead, and returns it."""
        deliveries: list[dict[str, Any]] = []
        for _ in range(int(seconds / 0.2)):
            deliveries = await self.deliveries(wait_id)
            if deliveries and deliveries[-1]["state"] != "queued":
                return deliveries[-1]
            await asyncio.sleep(0.2)
        raise AssertionError(f"not settled: {deliveries}\n{self.waitd.log[-10:]}")

    async def delivered(self, wait_id: str, seconds: float = 180) -> None:
        """Waits until the newest delivery is delivered."""
        delivery = await self.settled(wait_id, seconds)
        assert delivery["state"] == "delivered", delivery

    async def redeliver(self, wait_id: str) -> None:
        async with self._client.post(f"{self.waitd.url}/v1/waits/{wait_id}:redeliver", json={}) as response:
            assert response.status in {200, 202}, await response.text()
