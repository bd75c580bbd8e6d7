"""A server whose jobs are submitted, found and cancelled, and the client that calls it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from daemon import serving

from waitd.core.waits.submission import SubmitAnswer
from waitd.core.waits.wait import WaitId
from waitd.ports import HttpConnections
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.submit.plan import SubmitRequest

WAIT = WaitId("0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f")
SECRET_HEADERS = ("authorization", "*-token")


@dataclass
class JobServer:
    """A server, and the calls to it.

    Attributes:
        answers: the next answers: a response, seconds to hang, or None to close the connection.
            Without one, the server accepts the job.
        requests: method, path, headers and JSON body of each request.
    """

    answers: list[web.Response | float | None] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""
    jobs: HttpJobs = field(init=False)
    probe: HttpProbe = field(init=False)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        answer = self.answers.pop(0) if self.answers else response(200, {"job": {"id": 7}})
        if isinstance(answer, web.Response):
            return answer
        if answer is None and request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(answer or 0)
        return web.Response()

    def plan(self, params: dict[str, Any] | None = None, **submit: Any) -> SubmitRequest:
        submit = {
            "endpoint": f"{self.url}/jobs",
            "json": {"a": 1},
            "handle": "body.job.id",
            "request_timeout": 10,
        } | submit
        params = params or {"endpoint": f"{self.url}/jobs/{{handle}}"}
        return self.probe.parse_submit(submit, params, namespace="default")

    async def submit(self, *answers: web.Response | float | None, **submit: Any) -> SubmitAnswer:
        self.answers = list(answers)
        if any(isinstance(answer, float) for answer in answers):
            submit["request_timeout"] = 0.5
        return await self.jobs.submit(self.plan(**submit), WAIT)


def response(status: int, body: Any = None, **headers: str) -> web.Response:
    return web.json_response(
        body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@asynccontextmanager
async def job_server(connections: HttpConnections) -> AsyncIterator[JobServer]:
    server = JobServer()
    async with (
        serving("*", "/{path:.*}", server.answer) as server.url,
        HttpJobs(connections, secret_headers=SECRET_HEADERS) as server.jobs,
        HttpProbe(connections, secret_headers=SECRET_HEADERS) as server.probe,
    ):
        yield server
