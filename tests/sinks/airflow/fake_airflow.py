"""A fake of Airflow 3.3.2's API with one task instance.

Statuses and bodies were recorded from a live Airflow, against which the tests in `e2e/airflow` run.
It keeps the task instance, its HITL detail, XComs, state store, DAG runs and asset events in
memory. `fail` makes requests fail, before or after they take effect.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from aiohttp import web
from daemon import serving

TI_ID = "01a1fed1-5005-73b9-a133-47e52e9b4cc0"
NEXT_TI_ID = "01a1fed2-2810-74c8-9a1e-9ad0b9d689d1"
PREFIX = "/airflow"
TASK = "dags/etl/dagRuns/r1/taskInstances/wait"


def token(life: int, number: int) -> str:
    """A JWT like Airflow's; only its claims are valid."""
    claims = {"sub": "waitd", "role": "op", "iat": 1_795_276_413, "exp": 1_795_276_413 + life, "jti": number}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


@dataclass
class FakeAirflow:
    """The state of the fake, the requests it received, and the failures to inject."""

    state: str | None = "awaiting_input"
    ti_id: str = TI_ID
    try_number: int = 1
    ended_at: str | None = None
    #: The HITL detail's params_input; None: no response yet. `has_hitl` False: there is no detail.
    response: dict[str, Any] | None = None
    has_hitl: bool = True
    options: tuple[str, ...] = ("done",)
    respondents: tuple[str, ...] = ()
    xcoms: dict[str, Any] = field(default_factory=dict)
    #: The task's state store; below Airflow 3.3 there is none.
    store: dict[str, Any] = field(default_factory=dict)
    has_state_store: bool = True
    #: Below Airflow 3.2: `prevent_running_task` is an unknown field, and XComs become JSON text.
    is_below_32: bool = False
    runs: dict[str, Any] = field(default_factory=dict)
    assets: list[dict[str, Any]] = field(default_factory=lambda: [{"id": 1, "uri": "s3://lake/orders"}])
    events: list[dict[str, Any]] = field(default_factory=list)
    #: The audit log's entries of clears, newest first: their URL and body, logged before they take
    #: effect.
    audit: list[str] = field(default_factory=list)
    map_index: int = -1
    role: str = "op"
    life: int = 86_400
    logins: int = 0
    valid_tokens: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    #: Failures by method and end of path: a status, or "lost": it takes effect but is not answered.
    fail: dict[tuple[str, str], Any] = field(default_factory=dict)
    url: str = ""
    #: Airflow's clock, in Unix seconds; when the human-in-the-loop detail was created, and when the
    #: task instance was queued last.
    clock: Callable[[], float] = time.time
    created_at: float = 0.0
    queued_at: float = 0.0
    #: Fields to set once a response was accepted.
    after_response: dict[str, Any] | None = None
    #: Events to wait for before answering a request of this method.
    gate: dict[str, asyncio.Event] = field(default_factory=dict)

    @property
    def changes(self) -> list[tuple[str, Any]]:
        """The method and body of each request that changes something, without those for tokens."""
        return [
            (method, body)
            for method, path, body in self.requests
            if method != "GET" and not path.endswith("/auth/token")
        ]

    def bodies_of(self, method: str) -> list[Any]:
        """The bodies of the changes with this method."""
        return [body for used, body in self.changes if used == method]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, path, body))
        if path == f"{PREFIX}/auth/token":
            return self._issue_token(body)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not bearer:
            return problem(401, "Not authenticated")
        if bearer not in self.valid_tokens:
            return problem(403, "Invalid JWT token") if bearer == "revoked" else problem(401, "Token Expired")
        if request.method in self.gate:
            await self.gate[request.method].wait()
        for (method, end), failure in self.fail.items():
            if method == request.method and path.endswith(end):
                del self.fail[method, end]
                if failure == "lost":
                    self._route(request, path, body)
                    assert request.transport is not None
                    request.transport.close()
                    return web.Response()
                return failure if isinstance(failure, web.Response) else problem(failure, "failure")
        return self._route(request, path, body)

    def _issue_token(self, body: Any) -> web.Response:
        self.logins += 1
        if body != {"username": "waitd", "password": "pw"}:
            return problem(401, "Invalid credentials")
        issued = token(self.life, self.logins)
        self.valid_tokens.add(issued)
        return web.json_response({"access_token": issued}, status=201)

    def _route(self, request: web.Request, path: str, body: Any) -> web.Response:
        method, rest = request.method, path.removeprefix(f"{PREFIX}/api/v2/")
        if method != "GET" and self.role == "viewer":
            return problem(403, "Forbidden")
        if rest in {"dags/etl/clearTaskInstances", "eventLogs"}:
            return self._audit(request.query) if rest == "eventLogs" else self._clear(request.query, body)
        if rest.startswith("dags/etl/dagRuns") and not rest.startswith(TASK):
            return self._run(method, rest.removeprefix("dags/etl/dagRuns").strip("/"), body)
        if rest in {"assets", "assets/events"}:
            return self._asset(method, rest, request.query, body)
        index = request.query.get("map_index", str(self.map_index))
        if rest.startswith(f"{TASK}/") and index == str(self.map_index):
            return self._task(method, rest.removeprefix(f"{TASK}/"), body)
        return problem(404, f"`{rest}` was not found")

    def _task(self, method: str, rest: str, body: Any) -> web.Response:
        detail = f"{self.map_index}/hitlDetails"
        if rest.startswith("xcomEntries"):
            return self._xcom(method, rest.removeprefix("xcomEntries").strip("/"), body)
        if rest.startswith("state-store/"):
            return self._state_store(method, rest.removeprefix("state-store/"), body)
        if rest == str(self.map_index):
            return self._instance() if method == "GET" else self._set_state(body)
        if rest == detail and self.has_hitl:
            return self._respond(body) if method == "PATCH" else self._hitl_detail()
        if rest == f"{detail}/tries/1" and self.has_hitl:
            return web.json_response(
                {"params_input": self.response or {}, "response_received": self.response is not None}
            )
        return problem(404, "not found")

    def _instance(self) -> web.Response:
        if self.state == "gone":
            return problem(404, "The Mapped Task Instance with dag_id: `etl` … was not found")
        return web.json_response(
            {"id": self.ti_id, "state": self.state, "try_number": self.try_number, "map_index": self.map_index,
             "end_date": self.ended_at, "rendered_fields": {}}
        )  # fmt: skip

    def _hitl_detail(self) -> web.Response:
        times = {"created_at": _iso(self.created_at), "task_instance": {"queued_when": _iso(self.queued_at)}}
        return web.json_response(times, headers={"Date": formatdate(self.clock(), usegmt=True)})

    def _respond(self, body: Any) -> web.Response:
        if self.response is not None:
            return problem(
                409,
                "Human-in-the-loop detail has already been updated for Task Instance with id … and is not allowed to write again.",
            )
        if self.respondents and "waitd" not in self.respondents:
            return problem(403, "User=waitd (id=waitd) is not a respondent for the task.")
        wrong = [option for option in body["chosen_options"] if option not in self.options]
        if wrong:
            return problem(400, f"Invalid options {wrong}; allowed options are {list(self.options)}.")
        self.response = body["params_input"]
        if self.state in {"awaiting_input", "deferred"}:
            self.state = "scheduled"
        self.__dict__.update(self.after_response or {})
        return web.json_response({**body, "responded_at": "2026-11-21T15:55:04.316593Z"})

    def _set_state(self, body: Any) -> web.Response:
        if body["new_state"] not in {"success", "failed", "skipped"}:
            return web.json_response({"detail": [{"type": "value_error"}]}, status=422)
        if self.state == body["new_state"]:
            return problem(409, f"Task id wait is already in {self.state} state")
        self.state = body["new_state"]
        return web.json_response({"task_instances": [], "total_entries": 1})

    def _xcom(self, method: str, key: str, body: Any) -> web.Response:
        if method == "POST":
            if body["map_index"] != self.map_index:
                return problem(404, "not found")
            if body["key"] in self.xcoms:
                return problem(
                    409, f"The XCom with key: `{body['key']}` with mentioned task instance already exists."
                )
            self.xcoms[body["key"]] = json.dumps(body["value"]) if self.is_below_32 else body["value"]
            return web.json_response(body, status=201)
        if key not in self.xcoms:
            return problem(404, f"XCom entry with key: `{key}` not found")
        if method == "PATCH":
            assert body["map_index"] == self.map_index
            self.xcoms[key] = json.dumps(json.dumps(body["value"])) if self.is_below_32 else body["value"]
        return web.json_response({"key": key, "value": self.xcoms[key]})

    def _state_store(self, method: str, key: str, body: Any) -> web.Response:
        if not self.has_state_store:
            return web.json_response({"error": "API route not found"}, status=404)
        if method == "PUT":
            if len(json.dumps(body["value"])) > 65_535:
                return web.json_response({"detail": [{"type": "value_error"}]}, status=422)
            self.store[key] = body["value"]
            return web.Response(status=204)
        if method == "DELETE":
            self.store.pop(key, None)
            return web.Response(status=204)
        if key not in self.store:
            return problem(404, f"Task state store key '{key}' not found")
        return web.json_response({"key": key, "value": self.store[key]})

    def _clear(self, query: Any, body: Any) -> web.Response:
        if "prevent_running_task" in body and self.is_below_32:
            return web.json_response({"detail": [{"type": "extra_forbidden"}]}, status=422)
        self.audit.insert(0, json.dumps({**query, **body, "method": "POST"}))
        assert body["task_ids"] == [["wait", self.map_index]]
        if self.state == "running" and body["prevent_running_task"]:
            return problem(409, "AirflowClearRunningTaskException")
        self.ti_id, self.state = NEXT_TI_ID, None
        return web.json_response({"task_instances": [], "total_entries": 1})

    def _audit(self, query: Any) -> web.Response:
        filters = (query["dag_id"], query["run_id"], query["event"], query["order_by"])
        assert filters == ("etl", "r1", "post_clear_task_instances", "-event_log_id")
        assert query["after"].endswith("Z")
        start, limit = int(query["offset"]), int(query["limit"])
        entries = [{"event": query["event"], "extra": extra} for extra in self.audit[start : start + limit]]
        return web.json_response({"event_logs": entries, "total_entries": len(self.audit)})

    def _run(self, method: str, run_id: str, body: Any) -> web.Response:
        if method == "GET":
            return web.json_response(self.runs[run_id])
        if body["dag_run_id"] in self.runs:
            return web.json_response(
                {"detail": {"reason": "Unique constraint violation", "statement": "hidden"}}, status=409
            )
        self.runs[body["dag_run_id"]] = body
        return web.json_response(body)

    def _asset(self, method: str, rest: str, query: Any, body: Any) -> web.Response:
        if method == "POST":
            if self.role != "op":
                return problem(403, "Forbidden")
            if body["asset_id"] not in {asset["id"] for asset in self.assets}:
                return problem(404, f"Asset with ID: `{body['asset_id']}` was not found")
            self.events.insert(0, body)
            return web.json_response(body)
        start, limit = int(query["offset"]), int(query["limit"])
        if rest == "assets":
            assets = [asset for asset in self.assets if query["uri_pattern"] in asset["uri"]]
            return web.json_response({"assets": assets[start : start + limit], "total_entries": len(assets)})
        assert query["timestamp_gte"].endswith("Z")
        events = [event for event in self.events if event["asset_id"] == int(query["asset_id"])]
        return web.json_response(
            {"asset_events": events[start : start + limit], "total_entries": len(events)}
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


@asynccontextmanager
async def serve_fake_airflow() -> AsyncIterator[FakeAirflow]:
    airflow = FakeAirflow()
    async with serving("*", "/{path:.*}", airflow.answer) as base:
        airflow.url = base + PREFIX
        yield airflow
