"""One DAG run, as Airflow's own API tells of it."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
from daemon import Daemon

from waitd.bench.airflow.instance import Airflow

PARKED = {"awaiting_input", "deferred"}
ENDED = {"success", "failed", "skipped", "upstream_failed"}


class Run:
    """A run of a DAG that was begun here."""

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
        """The answer to a request below the run, which succeeds."""
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
        """The task instance, once it is in one of these states."""
        instance: dict[str, Any] = {}
        for _ in range(int(seconds / 0.3)):
            path = f"{self.path}/taskInstances/{task_id}/{map_index}"  # a mapped one is not there from the beginning
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
        """Clears the task, as a person does."""
        body = {
            "dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False, "reset_dag_runs": False,
        }  # fmt: skip
        path = f"/api/v2/dags/{self.dag_id}/clearTaskInstances"
        status, answer = await asyncio.to_thread(self.airflow.request, "POST", path, body)
        assert status == 200, answer


def sink(mode: str, instance: dict[str, Any], **more: Any) -> dict[str, Any]:
    """waitd's way back to a task instance."""
    names = ("dag_id", "task_id", "map_index", "try_number")
    return {
        "kind": "airflow",
        "conn_id": "airflow",
        "mode": mode,
        "run_id": instance["dag_run_id"],
        "ti_id": instance["id"],
        **{name: instance[name] for name in names},
        **more,
    }


class Waits:
    """Waits of one daemon on one job server."""

    def __init__(self, waitd: Daemon, client: aiohttp.ClientSession, jobs_url: str) -> None:
        self.waitd = waitd
        self._client = client
        self._jobs_url = jobs_url

    async def submit(
        self, *sinks: dict[str, Any], outcome: str = "success", seconds: float = 0, **more: Any
    ) -> str:
        """The id of a wait whose job ends so after so many seconds; `more` is the wait's own."""
        fails = "body.status == 'SUCCEEDED'" if outcome == "failed" else "false"
        takes = 3600 if outcome == "timeout" else seconds
        body = {
            "kind": "http",
            "params": {
                "endpoint": f"{self._jobs_url}/jobs/{uuid4().hex}?for={takes}",
                "success_when": "false" if outcome == "failed" else "body.status == 'SUCCEEDED'",
                "failure_when": fails,
                "result": "{'rows': 3, 'parts': ['a', 'b']}",
            },
            "poke_interval": 0.5,
            "timeout": 1 if outcome == "timeout" else 600,
            "sinks": list(sinks),
            **more,
        }
        async with self._client.post(f"{self.waitd.url}/v1/waits", json=body) as response:
            answer = await response.json()
            assert response.status == 201, answer
            wait_id: str = answer["id"]
            return wait_id

    async def wait(self, wait_id: str) -> dict[str, Any]:
        async with self._client.get(f"{self.waitd.url}/v1/waits/{wait_id}") as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            return answer

    async def ended(self, wait_id: str) -> dict[str, Any]:
        """The wait, once it has ended."""
        async with self._client.get(f"{self.waitd.url}/v1/waits/{wait_id}?wait=30") as response:
            answer: dict[str, Any] = await response.json()
            assert answer["state"] != "waiting", answer
            return answer

    async def deliveries(self, wait_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.wait(wait_id))["deliveries"]
        return found

    async def settled(self, wait_id: str, seconds: float = 180) -> dict[str, Any]:
        """The newest delivery, once it is delivered or dead."""
        found: list[dict[str, Any]] = []
        for _ in range(int(seconds / 0.2)):
            found = await self.deliveries(wait_id)
            if found and found[-1]["state"] != "queued":
                return found[-1]
            await asyncio.sleep(0.2)
        raise AssertionError(f"not settled: {found}\n{self.waitd.log[-10:]}")

    async def delivered(self, wait_id: str, seconds: float = 180) -> None:
        """Waits until the newest delivery went through."""
        delivery = await self.settled(wait_id, seconds)
        assert delivery["state"] == "delivered", delivery

    async def redeliver(self, wait_id: str) -> None:
        async with self._client.post(f"{self.waitd.url}/v1/waits/{wait_id}:redeliver", json={}) as response:
            assert response.status in {200, 202}, await response.text()
