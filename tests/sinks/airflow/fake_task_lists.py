"""A fake of the lists of Airflow 3.3.2: task instances, HITL details, stored registrations."""

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from aiohttp import web

from waitd.core.airflow.registration import TRIGGER_CLASS

BASE = "/api/v2/dags/~/dagRuns/~"
REGISTRATION: dict[str, Any] = {
    "wait": {"kind": "http"},
    "idempotency_key": "k",
    "deadline": "2026-11-28T00:00:00+00:00",
}


def ti_id(task: str) -> str:
    return str(uuid5(NAMESPACE_DNS, task))


class FakeTaskInstances:
    """Task instances by task id, with their states; `ids` holds the ids of later tries."""

    def __init__(self) -> None:
        self.states: dict[str, str | None] = {}
        self.ids: dict[str, str] = {}
        self.registrations: dict[str, Any] = {}
        self.bodies: dict[str, str] = {}
        self.status = 200
        self.version = "3.3.2"
        self.requests: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path.removeprefix("/airflow")
        self.requests.append(f"{request.method} {path}")
        if self.status != 200:
            return web.json_response({"detail": "failure"}, status=self.status)
        if path == f"{BASE}/taskInstances/list":
            return self._list(await request.json())
        return self._get(path, request.query)

    def _get(self, path: str, query: Mapping[str, str]) -> web.Response:
        if path == "/api/v2/version":
            return web.json_response({"version": self.version, "git_version": None})
        if self.version < "3.3" and (path.endswith("hitlDetails") or "/state-store/" in path):
            return web.json_response({"error": "API route not found"}, status=404)
        if path == f"{BASE}/hitlDetails":
            return self._details(query)
        task, _, rest = path.removeprefix("/api/v2/dags/etl/dagRuns/r1/taskInstances/").partition("/")
        if rest == f"{'xcomEntries' if self.version < '3.3' else 'state-store'}/waitd_registration":
            return web.json_response({"value": self.registrations[task]})
        if task not in self.states:
            return web.json_response({"detail": "was not found"}, status=404)
        return web.json_response(self._instance(task))

    def _instance(self, task: str) -> dict[str, Any]:
        instance = {
            "id": self.ids.get(task, ti_id(task)),
            "state": self.states[task],
            "dag_id": "etl",
            "dag_run_id": "r1",
        }
        trigger = {"classpath": TRIGGER_CLASS} if task in self.registrations else None
        return {**instance, "task_id": task, "map_index": -1, "try_number": 1, "trigger": trigger}

    def _list(self, body: Mapping[str, Any]) -> web.Response:
        if self.version < "3.3" and "awaiting_input" in body["state"]:
            return web.json_response({"detail": "Invalid value for state"}, status=422)
        instances = [
            self._instance(task)
            for task, state in self.states.items()
            if state in body["state"] and task in body.get("task_ids", self.states)
        ]
        instances.sort(key=lambda instance: str(instance["id"]))
        page = instances[body["page_offset"] :][: body["page_limit"]]
        return web.json_response({"task_instances": page, "total_entries": len(instances)})

    def _details(self, query: Mapping[str, str]) -> web.Response:
        assert (query["state"], query["response_received"]) == ("awaiting_input", "false")
        details = [
            {"body": body, "task_instance": self._instance(task)} for task, body in self.bodies.items()
        ]
        page = details[int(query["offset"]) :][: int(query["limit"])]
        return web.json_response({"hitl_details": page, "total_entries": len(details)})
