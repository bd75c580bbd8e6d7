"""An unreliable job system: it accepts jobs and drops the answer, is too busy, fails, or hangs.

`POST /jobs` with `{"name": …}` creates a job and answers `{"job": {"id": …}}`; a known
`Idempotency-Key` gets the earlier job. `GET /jobs/ID` is RUNNING a few times, then DONE;
`DELETE /jobs/ID` cancels. `submit_fault(name)` and `cancel_fault(job)` name the fault of a call.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from daemon import serving

#: How long a hanging call takes, in seconds.
HANG = 1.5


@dataclass
class Job:
    id: int
    name: str
    key: str | None
    polls: int = 0
    cancels: int = 0


class JobSystem:
    """The jobs in the order of their creation, and how often each name was submitted."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.submit_fault: Callable[[str], str] = lambda _: ""
        self.cancel_fault: Callable[[Job], str] = lambda _: ""
        #: A job is DONE after this many polls.
        self.running_polls = 1
        self.honours_keys = True
        self.url = ""

    def jobs_named(self, name: str) -> list[Job]:
        return [job for job in self.jobs if job.name == name]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return await self._submit(request)
        if request.query.get("name"):
            found = [{"id": job.id} for job in self.jobs_named(request.query["name"])]
            return web.json_response({"jobs": found})
        try:
            job = self.jobs[int(request.path.rpartition("/")[2]) - 1]
        except (ValueError, IndexError):
            return web.json_response({"error": "no such job"}, status=404)
        if request.method == "DELETE":
            return await self._cancel(request, job)
        job.polls += 1
        state = "CANCELLED" if job.cancels else "DONE" if job.polls > self.running_polls else "RUNNING"
        return web.json_response({"id": job.id, "state": state})

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["name"]
        self.calls[name] += 1
        fault = self.submit_fault(name)
        if fault.startswith("before "):
            return await self._fail(request, fault.removeprefix("before "))
        key = request.headers.get("Idempotency-Key")
        known = [job for job in self.jobs if key is not None and job.key == key] if self.honours_keys else []
        job = known[0] if known else Job(len(self.jobs) + 1, name, key)
        if not known:
            self.jobs.append(job)
        if fault:
            return await self._fail(request, fault)
        return web.json_response({"job": {"id": job.id}}, status=201, headers={"Location": f"/jobs/{job.id}"})

    async def _cancel(self, request: web.Request, job: Job) -> web.StreamResponse:
        fault = self.cancel_fault(job)
        if fault.startswith("before "):
            return await self._fail(request, fault.removeprefix("before "))
        job.cancels += 1
        return await self._fail(request, fault) if fault else web.Response(status=204)

    async def _fail(self, request: web.Request, fault: str) -> web.StreamResponse:
        match fault:
            case "drop":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "hang":
                await asyncio.sleep(HANG)
                return web.Response(status=504)
            case "busy":
                return web.json_response({"error": "too many"}, status=429, headers={"Retry-After": "0"})
        return web.json_response({"error": f"the fault is {fault}"}, status=int(fault))


@asynccontextmanager
async def job_system() -> AsyncIterator[JobSystem]:
    """Runs a job system inside the block."""
    system = JobSystem()
    async with serving("*", "/{path:.*}", system.answer) as system.url:
        yield system
