"""A small server that answers as the vendors' documentation describes.

It serves Airbyte's public API, Databricks jobs, Spark standalone's REST server, Livy, BigQuery, and
the systems of `vendor_tables`, each on its own paths of one port. A job moves to its next state
each time it is polled. The server records every submit, and it can lose an answer after it accepted
the job.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from vendor_tables import VENDOR_APIS, routes


@dataclass
class Job:
    """One job.

    Attributes:
        states: the current state and all later ones; the last one stays.
        key: its idempotency key.
    """

    vendor: str
    id: str
    states: list[str]
    key: str | None = None
    submitted: Any = None
    polls: int = 0
    cancelled: bool = False

    @property
    def state(self) -> str:
        return self.states[0]

    def poll(self) -> str:
        """The state now; the next poll returns the next state."""
        state = self.states[0]
        self.polls += 1
        if len(self.states) > 1:
            del self.states[0]
        return state

    def cancel(self, state: str) -> None:
        if len(self.states) > 1:
            self.cancelled = True
            self.states[:] = [state]


@dataclass
class Vendors:
    """The server. `lose_answer(request)`: whether the answer to an accepted submit is lost."""

    url: str = ""
    jobs: list[Job] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lose_answer: Callable[[web.Request], bool] = lambda _: False
    #: The states of the next jobs of a vendor; default: `STATES`.
    states: dict[str, Sequence[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(101))

    def jobs_of(self, vendor: str) -> list[Job]:
        return [job for job in self.jobs if job.vendor == vendor]

    def find(self, vendor: str, job_id: object) -> Job | None:
        return next((job for job in self.jobs_of(vendor) if job.id == str(job_id)), None)

    def find_by_key(self, vendor: str, key: str | None) -> Job | None:
        return next((job for job in self.jobs_of(vendor) if key is not None and job.key == key), None)

    def submit(
        self, vendor: str, submitted: Any, *, key: str | None = None, job_id: str | None = None
    ) -> Job:
        states = list(self.states.get(vendor, STATES[vendor]))
        self.jobs.append(Job(vendor, job_id or str(next(self._numbers)), states, key, submitted))
        return self.jobs[-1]

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._record])
        for method, path, handler in (
            *(("POST", "/api/public/v1/jobs", self.airbyte_create), ("GET", "/api/public/v1/jobs", self.airbyte_list)),
            *(("GET", "/api/public/v1/jobs/{id}", self.airbyte_get), ("DELETE", "/api/public/v1/jobs/{id}", self.airbyte_cancel)),
            ("POST", "/api/2.2/jobs/run-now", self.databricks_run),
            ("GET", "/api/2.2/jobs/runs/get", self.databricks_get),
            ("POST", "/api/2.2/jobs/runs/cancel", self.databricks_cancel),
            ("POST", "/v1/submissions/create", self.spark_create),
            ("GET", "/v1/submissions/status/{id}", self.spark_status),
            ("POST", "/v1/submissions/kill/{id}", self.spark_kill),
            *(("POST", "/batches", self.livy_create), ("GET", "/batches/{id}/state", self.livy_state)),
            ("DELETE", "/batches/{id}", self.livy_delete),
            ("POST", "/bigquery/v2/projects/{project}/jobs", self.bigquery_insert),
            ("GET", "/bigquery/v2/projects/{project}/jobs/{id}", self.bigquery_get),
            ("POST", "/bigquery/v2/projects/{project}/jobs/{id}/cancel", self.bigquery_cancel),
        ):  # fmt: skip
            application.router.add_route(method, path, handler)
        application.router.add_routes(routes(self))
        return application

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.raw_path}")
        count_before = len(self.jobs)
        response: web.StreamResponse = await handler(request)
        if len(self.jobs) > count_before and self.lose_answer(request) and request.transport is not None:
            request.transport.abort()
        return response

    def _job(self, vendor: str, request: web.Request, missing: Mapping[str, Any]) -> Job:
        """Finds the job that the path names. Raises HTTPNotFound with the body `missing`."""
        job = self.find(vendor, request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(text=json.dumps(missing), content_type="application/json")
        return job

    # ------------------------------------------------------------ Airbyte

    async def airbyte_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        connection = body["connectionId"]
        if any(job.state in AIRBYTE_RUNNING for job in self.jobs_of("airbyte") if job.key == connection):
            answer = {
                "type": "error:state-conflict",
                "detail": "A sync is already running for this connection",
            }
            return web.json_response(answer, status=409)
        job = self.submit("airbyte", body, key=connection)
        return web.json_response(_airbyte(job, job.state))

    async def airbyte_list(self, request: web.Request) -> web.Response:
        connection = request.query["connectionId"]
        jobs = [job for job in self.jobs_of("airbyte") if job.key == connection]
        return web.json_response({"data": [_airbyte(job, job.state) for job in reversed(jobs)]})

    async def airbyte_get(self, request: web.Request) -> web.Response:
        job = self._job("airbyte", request, {"detail": "Could not find a resource"})
        return web.json_response(_airbyte(job, job.poll()))

    async def airbyte_cancel(self, request: web.Request) -> web.Response:
        job = self._job("airbyte", request, {"detail": "Could not find a resource"})
        job.cancel("cancelled")
        return web.json_response(_airbyte(job, job.state))

    # ------------------------------------------------------------ Databricks

    async def databricks_run(self, request: web.Request) -> web.Response:
        body = await request.json()
        token = body.get("idempotency_token")
        if token is not None and len(token) > 64:
            return web.json_response(
                {"error_code": "INVALID_PARAMETER_VALUE", "message": "token"}, status=400
            )
        job = self.find_by_key("databricks", token) or self.submit("databricks", body, key=token)
        return web.json_response({"run_id": int(job.id), "number_in_job": int(job.id)})

    async def databricks_get(self, request: web.Request) -> web.Response:
        run_id = request.query["run_id"]
        job = self.find("databricks", run_id)
        if job is None:
            answer = {"error_code": "INVALID_PARAMETER_VALUE", "message": f"Run {run_id} does not exist."}
            return web.json_response(answer, status=400)
        life_cycle, _, result = job.poll().partition("/")
        state = {"life_cycle_state": life_cycle, "state_message": ""} | (
            {"result_state": result} if result else {}
        )
        about = {"run_id": int(job.id), "job_id": 1, "run_page_url": f"{self.url}/#job/1/run/{job.id}"}
        return web.json_response({**about, "state": state})

    async def databricks_cancel(self, request: web.Request) -> web.Response:
        job = self.find("databricks", (await request.json())["run_id"])
        if job is not None:
            job.cancel("TERMINATED/CANCELED")
        return web.json_response({})

    # ------------------------------------------------------------ Spark standalone

    async def spark_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        missing = [
            name for name in ("action", "appResource", "mainClass", "sparkProperties") if name not in body
        ]
        if missing:
            return web.json_response({"action": "ErrorResponse", "message": f"Missing {missing}"}, status=400)
        job = self.submit("spark", body, job_id=f"driver-2026-{next(self._numbers)}")
        answer = {"action": "CreateSubmissionResponse", "success": True, "submissionId": job.id}
        return web.json_response(answer)

    async def spark_status(self, request: web.Request) -> web.Response:
        submission_id = request.match_info["id"]
        job = self.find("spark", submission_id)
        answer: dict[str, Any] = {"action": "SubmissionStatusResponse", "submissionId": submission_id}
        answer |= {"success": job is not None} | ({} if job is None else {"driverState": job.poll()})
        return web.json_response(answer)

    async def spark_kill(self, request: web.Request) -> web.Response:
        job = self.find("spark", request.match_info["id"])
        if job is not None:
            job.cancel("KILLED")
        return web.json_response({"action": "KillSubmissionResponse", "success": job is not None})

    # ------------------------------------------------------------ Livy

    async def livy_create(self, request: web.Request) -> web.Response:
        if "X-Requested-By" not in request.headers:
            return web.json_response({"msg": "Missing Required Header for CSRF protection."}, status=400)
        job = self.submit("livy", await request.json())
        return web.json_response({"id": int(job.id), "state": job.state}, status=201)

    async def livy_state(self, request: web.Request) -> web.Response:
        job = self._job("livy", request, {"msg": f"Session '{request.match_info['id']}' not found."})
        return web.json_response({"id": int(job.id), "state": job.poll()})

    async def livy_delete(self, request: web.Request) -> web.Response:
        job = self._job("livy", request, {"msg": "not found"})
        if job.cancelled:
            return web.json_response({"msg": "not found"}, status=404)
        job.cancel("killed")
        return web.json_response({"msg": "deleted"})

    # ------------------------------------------------------------ BigQuery

    async def bigquery_insert(self, request: web.Request) -> web.Response:
        body = await request.json()
        job_id = body["jobReference"]["jobId"]
        if self.find("bigquery", job_id) is not None:
            return web.json_response(_google(409, f"Already Exists: Job {job_id}", "duplicate"), status=409)
        job = self.submit("bigquery", body, key=job_id, job_id=job_id)
        return web.json_response(_bigquery(job, job.state))

    async def bigquery_get(self, request: web.Request) -> web.Response:
        job = self._job("bigquery", request, _google(404, "Not found: Job", "notFound"))
        return web.json_response(_bigquery(job, job.poll()))

    async def bigquery_cancel(self, request: web.Request) -> web.Response:
        job = self._job("bigquery", request, _google(404, "Not found: Job", "notFound"))
        job.cancel("DONE/stopped")
        return web.json_response({"job": _bigquery(job, job.state)})


AIRBYTE_RUNNING = {"pending", "running", "incomplete"}
#: The states of a job of each vendor. `A/B` is state A with result or error B.
STATES: dict[str, Sequence[str]] = {
    "airbyte": ("pending", "running", "incomplete", "running", "succeeded"),
    "databricks": ("PENDING", "RUNNING", "TERMINATING", "TERMINATED/SUCCESS"),
    "spark": ("SUBMITTED", "RUNNING", "FINISHED"),
    "livy": ("starting", "running", "success"),
    "bigquery": ("PENDING", "RUNNING", "DONE"),
    **{vendor: api.states for vendor, api in VENDOR_APIS.items()},
}


def _airbyte(job: Job, state: str) -> dict[str, Any]:
    return {"jobId": int(job.id), "status": state, "jobType": "sync", "connectionId": job.key}


def _bigquery(job: Job, state: str) -> dict[str, Any]:
    name, _, reason = state.partition("/")
    error = {"errorResult": {"reason": reason, "message": "Job execution was cancelled"}} if reason else {}
    reference = job.submitted["jobReference"]
    return {"kind": "bigquery#job", "jobReference": reference, "status": {"state": name, **error}}


def _google(code: int, message: str, reason: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": [{"reason": reason, "message": message}]}}


@asynccontextmanager
async def vendors() -> AsyncIterator[Vendors]:
    """Runs the server on a free port."""
    server = Vendors()
    async with TestServer(server.application()) as running:
        server.url = f"http://127.0.0.1:{running.port}"
        yield server
