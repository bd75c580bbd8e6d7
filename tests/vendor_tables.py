"""More job systems as their documentation has them, a row each: what `vendors.Vendors` serves beside those that it is written out for.

Airbyte's config API, Databricks' SQL statements, Snowflake's, dbt Cloud, Dataproc, Data Factory, Argo, Hightouch, Fivetran, GitHub, and
operations by RFC 9110 and by Azure. A row says where a job is submitted, looked at and cancelled, how it goes, and what each call is
answered with.
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
#: When the last sync before those of the tests ended, and when those do.
BEFORE, AFTER = "2026-11-21T11:00:00.000Z", "2026-11-21T12:30:00.000Z"
_PROBLEM: Body = {"title": "Export failed", "detail": "no such table"}


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        look, submit, cancel: method and path; what names the job stands in the path as `{id}`, in the query, or in the body.
        way: the states of a job; `cancelled` is the state of one that was.
        told: the answer to a look at a job in a state; `made`: that to the submitting call, default: the same.
        key: what makes a repeated submitting call the same one, from it and its body.
        taken: whether a repeated call is refused with 409 instead.
        status: of an answer, by the state; `headers`: the same of its headers.
    """

    look: str
    way: Sequence[str]
    told: Callable[["Job", str], Any]
    made: Callable[["Job"], Any] | None = None
    submit: str = ""
    cancel: str = ""
    cancelled: str = ""
    key: Callable[[web.Request, Body], str | None] = lambda _call, _body: None
    taken: bool = False
    status: Callable[[str], int] = lambda _: 200
    headers: Callable[["Job", str], Mapping[str, str]] = lambda _job, _state: {}


ROWS = {
    "airbyte-config": Row(
        submit="POST /api/v1/connections/sync",
        look="POST /api/v1/jobs/get",
        cancel="POST /api/v1/jobs/cancel",
        way=("pending", "running", "succeeded"),
        cancelled="cancelled",
        told=lambda job, state: {"job": {"id": int(job.id), "status": state}, "attempts": []},
    ),
    "databricks-sql": Row(
        submit="POST /api/2.0/sql/statements",
        look="GET /api/2.0/sql/statements/{id}",
        cancel="POST /api/2.0/sql/statements/{id}/cancel",
        way=("PENDING", "RUNNING", "SUCCEEDED"),
        cancelled="CANCELED",
        told=lambda job, state: {"statement_id": job.id, "status": {"state": state}},
    ),
    "snowflake": Row(
        submit="POST /api/v2/statements",
        look="GET /api/v2/statements/{id}",
        cancel="POST /api/v2/statements/{id}/cancel",
        way=("202", "202", "200"),
        cancelled="422",
        told=lambda job, state: {"statementHandle": job.id, "code": "0", "message": f"HTTP {state}"},
        key=lambda call, _body: call.query.get("requestId"),
        status=int,
    ),
    "dbt": Row(
        submit=f"POST {_DBT}/jobs/{{job}}/run/",
        look=f"GET {_DBT}/runs/{{id}}/",
        cancel=f"POST {_DBT}/runs/{{id}}/cancel/",
        way=("1", "2", "3", "10"),
        cancelled="30",
        told=lambda job, state: {"status": {"code": 200}, "data": {"id": int(job.id), "status": int(state)}},
    ),
    "dataproc": Row(
        submit=f"POST {_DATAPROC}:submit",
        look=f"GET {_DATAPROC}/{{id}}",
        cancel=f"POST {_DATAPROC}/{{id}}:cancel",
        way=("PENDING", "SETUP_DONE", "RUNNING", "DONE"),
        cancelled="CANCELLED",
        told=lambda job, state: {"reference": {"jobId": job.id}, "status": {"state": state}},
        key=lambda _call, body: body.get("requestId"),
    ),
    "adf": Row(
        submit=f"POST {_FACTORY}/pipelines/{{pipeline}}/createRun",
        look=f"GET {_FACTORY}/pipelineruns/{{id}}",
        cancel=f"POST {_FACTORY}/pipelineruns/{{id}}/cancel",
        way=("Queued", "InProgress", "Succeeded"),
        cancelled="Cancelled",
        told=lambda job, state: {"runId": job.id, "status": state, "message": ""},
        made=lambda job: {"runId": job.id},
    ),
    "argo": Row(
        submit="POST /api/v1/workflows/{ns}/submit",
        look="GET /api/v1/workflows/{ns}/{id}",
        cancel="PUT /api/v1/workflows/{ns}/{id}/terminate",
        way=("", "Pending", "Running", "Succeeded"),
        cancelled="Failed",
        told=lambda job, state: {"metadata": {"name": job.id}, "status": {"phase": state} if state else {}},
        key=lambda _call, body: body["submitOptions"]["name"],
        taken=True,
    ),
    "hightouch": Row(
        submit="POST /api/v1/syncs/{sync}/trigger",
        look="GET /api/v1/syncs/{sync}/runs",
        way=("queued", "querying", "success"),
        told=lambda job, state: {"data": [{"id": job.id, "status": state, "error": None}]},
        made=lambda job: {"id": job.id},
    ),
    "async202": Row(
        submit="POST /exports",
        look="GET /operations/{id}",
        way=("202", "202", "200"),
        told=lambda job, state: _PROBLEM if state == "422" else {"operation": job.id, "status": state},
        key=lambda call, _body: call.headers.get("Idempotency-Key"),
        status=int,
        headers=lambda job, state: (
            {"Location": f"/operations/{job.id}?seen={job.looks}", "Retry-After": "7"}
            if state == "202"
            else {}
        ),
    ),
    "azure": Row(
        look=f"GET {_AZURE}",
        way=("InProgress", "InProgress", "Succeeded"),
        told=lambda job, state: {
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
    "fivetran": Row(
        look="GET /v1/connections/{id}",
        way=("scheduled", "syncing", "succeeded"),
        told=lambda job, state: {"code": "Success", "data": _fivetran(job, state)},
    ),
    "github": Row(
        look="GET /repos/{owner}/{repo}/actions/runs/{id}",
        way=("queued", "in_progress", "completed/success"),
        told=lambda job, state: _github(job, *state.split("/")),
    ),
}


def _fivetran(job: "Job", state: str) -> Body:
    """A connection: there is no sync to look at, only when the last one that succeeded or failed has ended."""
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
    """What all rows come to on a server."""
    for vendor, row in ROWS.items():
        calls = _Calls(server, vendor, row)
        for call, handler in ((row.submit, calls.submit), (row.look, calls.look), (row.cancel, calls.cancel)):
            method, _, path = call.partition(" ")
            if method:
                yield web.route(method, path.replace("{id}", "{id:[^/:]+}"), handler)


class _Calls:
    def __init__(self, server: "Vendors", vendor: str, row: Row) -> None:
        self._server = server
        self._vendor = vendor
        self._row = row

    async def submit(self, request: web.Request) -> web.Response:
        body = await _body(request)
        key = self._row.key(request, body)
        known = self._server.keyed(self._vendor, key)
        if known is not None and self._row.taken:
            return web.json_response({"message": f"workflows {key!r} already exists"}, status=409)
        named = key if self._row.taken else None
        job = known or self._server.take(self._vendor, body, key=key, job_id=named)
        if self._row.made is not None:
            return web.json_response(self._row.made(job))
        return self._told(job, job.state)

    async def look(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        return self._told(job, job.look()) if job else web.json_response({}, status=404)

    async def cancel(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        if job is None:
            return web.json_response({}, status=404)
        job.cancel(self._row.cancelled)
        return web.json_response({})

    def _told(self, job: "Job", state: str) -> web.Response:
        row = self._row
        return web.json_response(
            row.told(job, state), status=row.status(state), headers=row.headers(job, state)
        )

    async def _job(self, request: web.Request) -> "Job | None":
        named = request.match_info.get("id") or request.query.get("runId") or (await _body(request)).get("id")
        return self._server.find(self._vendor, named)


async def _body(request: web.Request) -> Body:
    body: Body = await request.json() if request.can_read_body else {}
    return body
