"""Job systems as their documentation describes them, one row each; `vendors.Vendors` serves them.

Airbyte's config API, Databricks' SQL statements, Snowflake, dbt Cloud, Dataproc, Data Factory,
Argo, Hightouch, Fivetran, GitHub, and operations by RFC 9110 and by Azure. A row says how a job is
submitted, polled and cancelled, which states it goes through, and how each call is answered.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from vendors import Job, Vendors

Body = Mapping[str, Any]
_FACTORY = "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.DataFactory/factories/{f}"
_DATAPROC = "/v1/projects/{p}/regions/{r}/jobs"
_DBT = "/api/v2/accounts/{a}"
_AZURE = "/subscriptions/{s}/providers/Microsoft.Compute/locations/{location}/operations/{id}"
#: When the last sync before the test ended, and when the syncs of the test end.
BEFORE, AFTER = "2026-11-21T11:00:00.000Z", "2026-11-21T12:30:00.000Z"
_PROBLEM: Body = {"title": "Export failed", "detail": "no such table"}


@dataclass(frozen=True)
class VendorApi:
    """One job system.

    Attributes:
        poll, submit, cancel: method and path; the job's id is `{id}` in the path, a query
            parameter, or a field of the body.
        states: the states that a job goes through; `cancelled` is the state of a cancelled job.
        answer: the body for a job in a state; `submit_answer`: the body for the submitting call, by
            default the same.
        idempotency_key: the key of a submitting call, from the request and its body.
        refuses_repeats: whether a repeated submitting call is refused with 409.
        status, headers: status and headers of an answer, by the job's state.
    """

    poll: str
    states: Sequence[str]
    answer: Callable[["Job", str], Any]
    submit_answer: Callable[["Job"], Any] | None = None
    submit: str = ""
    cancel: str = ""
    cancelled: str = ""
    idempotency_key: Callable[[web.Request, Body], str | None] = lambda _call, _body: None
    refuses_repeats: bool = False
    status: Callable[[str], int] = lambda _: 200
    headers: Callable[["Job", str], Mapping[str, str]] = lambda _job, _state: {}


VENDOR_APIS = {
    "airbyte-config": VendorApi(
        submit="POST /api/v1/connections/sync",
        poll="POST /api/v1/jobs/get",
        cancel="POST /api/v1/jobs/cancel",
        states=("pending", "running", "succeeded"),
        cancelled="cancelled",
        answer=lambda job, state: {"job": {"id": int(job.id), "status": state}, "attempts": []},
    ),
    "databricks-sql": VendorApi(
        submit="POST /api/2.0/sql/statements",
        poll="GET /api/2.0/sql/statements/{id}",
        cancel="POST /api/2.0/sql/statements/{id}/cancel",
        states=("PENDING", "RUNNING", "SUCCEEDED"),
        cancelled="CANCELED",
        answer=lambda job, state: {"statement_id": job.id, "status": {"state": state}},
    ),
    "snowflake": VendorApi(
        submit="POST /api/v2/statements",
        poll="GET /api/v2/statements/{id}",
        cancel="POST /api/v2/statements/{id}/cancel",
        states=("202", "202", "200"),
        cancelled="422",
        answer=lambda job, state: {"statementHandle": job.id, "code": "0", "message": f"HTTP {state}"},
        idempotency_key=lambda call, _body: call.query.get("requestId"),
        status=int,
    ),
    "dbt": VendorApi(
        submit=f"POST {_DBT}/jobs/{{job}}/run/",
        poll=f"GET {_DBT}/runs/{{id}}/",
        cancel=f"POST {_DBT}/runs/{{id}}/cancel/",
        states=("1", "2", "3", "10"),
        cancelled="30",
        answer=lambda job, state: {
            "status": {"code": 200},
            "data": {"id": int(job.id), "status": int(state)},
        },
    ),
    "dataproc": VendorApi(
        submit=f"POST {_DATAPROC}:submit",
        poll=f"GET {_DATAPROC}/{{id}}",
        cancel=f"POST {_DATAPROC}/{{id}}:cancel",
        states=("PENDING", "SETUP_DONE", "RUNNING", "DONE"),
        cancelled="CANCELLED",
        answer=lambda job, state: {"reference": {"jobId": job.id}, "status": {"state": state}},
        idempotency_key=lambda _call, body: body.get("requestId"),
    ),
    "adf": VendorApi(
        submit=f"POST {_FACTORY}/pipelines/{{pipeline}}/createRun",
        poll=f"GET {_FACTORY}/pipelineruns/{{id}}",
        cancel=f"POST {_FACTORY}/pipelineruns/{{id}}/cancel",
        states=("Queued", "InProgress", "Succeeded"),
        cancelled="Cancelled",
        answer=lambda job, state: {"runId": job.id, "status": state, "message": ""},
        submit_answer=lambda job: {"runId": job.id},
    ),
    "argo": VendorApi(
        submit="POST /api/v1/workflows/{ns}/submit",
        poll="GET /api/v1/workflows/{ns}/{id}",
        cancel="PUT /api/v1/workflows/{ns}/{id}/terminate",
        states=("", "Pending", "Running", "Succeeded"),
        cancelled="Failed",
        answer=lambda job, state: {"metadata": {"name": job.id}, "status": {"phase": state} if state else {}},
        idempotency_key=lambda _call, body: body["submitOptions"]["name"],
        refuses_repeats=True,
    ),
    "hightouch": VendorApi(
        submit="POST /api/v1/syncs/{sync}/trigger",
        poll="GET /api/v1/syncs/{sync}/runs",
        states=("queued", "querying", "success"),
        answer=lambda job, state: {"data": [{"id": job.id, "status": state, "error": None}]},
        submit_answer=lambda job: {"id": job.id},
    ),
    "async202": VendorApi(
        submit="POST /exports",
        poll="GET /operations/{id}",
        states=("202", "202", "200"),
        answer=lambda job, state: _PROBLEM if state == "422" else {"operation": job.id, "status": state},
        idempotency_key=lambda call, _body: call.headers.get("Idempotency-Key"),
        status=int,
        headers=lambda job, state: (
            {"Location": f"/operations/{job.id}?seen={job.polls}", "Retry-After": "7"}
            if state == "202"
            else {}
        ),
    ),
    "azure": VendorApi(
        poll=f"GET {_AZURE}",
        states=("InProgress", "InProgress", "Succeeded"),
        answer=lambda job, state: {
            "id": f"/operations/{job.id}",
            "status": state,
            **(
                {"error": {"code": "DiskInUse", "message": "The disk is in use."}}
                if state == "Failed"
                else {}
            ),
        },
        headers=lambda _job, state: {"Retry-After": "10"} if state == "InProgress" else {},
    ),
    "fivetran": VendorApi(
        poll="GET /v1/connections/{id}",
        states=("scheduled", "syncing", "succeeded"),
        answer=lambda job, state: {"code": "Success", "data": _fivetran(job, state)},
    ),
    "github": VendorApi(
        poll="GET /repos/{owner}/{repo}/actions/runs/{id}",
        states=("queued", "in_progress", "completed/success"),
        answer=lambda job, state: _github(job, *state.split("/")),
    ),
}


def _fivetran(job: "Job", state: str) -> Body:
    """A connection. Fivetran has no job to poll; it reports the end of the last sync."""
    ended = state in {"succeeded", "failed"}
    tasks = [{"code": "reconnect", "message": "Reconnect"}] if state == "failed" else []
    return {
        "id": job.id,
        "succeeded_at": AFTER if state == "succeeded" else BEFORE,
        "failed_at": AFTER if state == "failed" else None,
        "status": {"setup_state": "connected", "sync_state": "scheduled" if ended else state, "tasks": tasks},
    }


def _github(job: "Job", status: str, conclusion: str | None = None) -> Body:
    about = {"html_url": f"https://github.com/apache/airflow/actions/runs/{job.id}", "head_sha": "009b8a3a"}
    return {"id": int(job.id), "status": status, "conclusion": conclusion, **about}


def routes(server: "Vendors") -> Iterator[web.RouteDef]:
    """The routes of every system in the table."""
    for vendor, api in VENDOR_APIS.items():
        calls = _Calls(server, vendor, api)
        for call, handler in (
            (api.submit, calls.submit),
            (api.poll, calls.poll),
            (api.cancel, calls.cancel),
        ):
            method, _, path = call.partition(" ")
            if method:
                yield web.route(method, path.replace("{id}", "{id:[^/:]+}"), handler)


@dataclass(frozen=True)
class _Calls:
    server: "Vendors"
    vendor: str
    api: VendorApi

    async def submit(self, request: web.Request) -> web.Response:
        body = await _body(request)
        key = self.api.idempotency_key(request, body)
        known = self.server.find_by_key(self.vendor, key)
        if known is not None and self.api.refuses_repeats:
            return web.json_response({"message": f"workflows {key!r} already exists"}, status=409)
        job_id = key if self.api.refuses_repeats else None
        job = known or self.server.submit(self.vendor, body, key=key, job_id=job_id)
        if self.api.submit_answer is not None:
            return web.json_response(self.api.submit_answer(job))
        return self._answer(job, job.state)

    async def poll(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        return self._answer(job, job.poll())

    async def cancel(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        job.cancel(self.api.cancelled)
        return web.json_response({})

    def _answer(self, job: "Job", state: str) -> web.Response:
        api = self.api
        return web.json_response(
            api.answer(job, state), status=api.status(state), headers=api.headers(job, state)
        )

    async def _job(self, request: web.Request) -> "Job":
        """Finds the job that a call names. Raises HTTPNotFound."""
        job_id = (
            request.match_info.get("id") or request.query.get("runId") or (await _body(request)).get("id")
        )
        job = self.server.find(self.vendor, job_id)
        if job is None:
            raise web.HTTPNotFound(text="{}", content_type="application/json")
        return job


async def _body(request: web.Request) -> Body:
    body: Body = await request.json() if request.can_read_body else {}
    return body
