"""A job system as the worst of them are: it takes jobs and drops the answer, is too busy, breaks, hangs, and is killed with its caller.

`POST /jobs` with `{"name": …}` makes a job and answers `{"job": {"id": …}}`; with an `Idempotency-Key` that it knows it answers the job it
made before. `GET /jobs/ID` is RUNNING a few times, then DONE; `DELETE /jobs/ID` cancels. `trouble(name)` says what happens to a call.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from daemon import serving

#: How long it keeps a caller waiting that it lets hang, in seconds.
HANG = 1.5


@dataclass
class Job:
    id: int
    name: str
    key: str | None
    looks: int = 0
    cancels: int = 0


class JobSystem:
    """What it did: `jobs` in the order in which they were made, and how often each name was asked for."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.trouble: Callable[[str], str] = lambda _: ""
        self.cancel_trouble: Callable[[Job], str] = lambda _: ""
        #: Looks after which a job is DONE.
        self.running_for = 1
        self.takes_keys = True
        self.url = ""

    def of(self, name: str) -> list[Job]:
        return [job for job in self.jobs if job.name == name]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return await self._submit(request)
        if request.query.get("name"):
            found = [{"id": job.id} for job in self.of(request.query["name"])]
            return web.json_response({"jobs": found})
        try:
            job = self.jobs[int(request.path.rpartition("/")[2]) - 1]
        except (ValueError, IndexError):
            return web.json_response({"error": "no such job"}, status=404)
        if request.method == "DELETE":
            return await self._cancel(request, job)
        job.looks += 1
        state = "CANCELLED" if job.cancels else "DONE" if job.looks > self.running_for else "RUNNING"
        return web.json_response({"id": job.id, "state": state})

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["name"]
        self.calls[name] += 1
        trouble = self.trouble(name)
        if trouble.startswith("before "):
            return await self._troubled(request, trouble.removeprefix("before "))
        key = request.headers.get("Idempotency-Key")
        known = [job for job in self.jobs if key is not None and job.key == key] if self.takes_keys else []
        job = known[0] if known else Job(len(self.jobs) + 1, name, key)
        if not known:
            self.jobs.append(job)
        if trouble:
            return await self._troubled(request, trouble)
        return web.json_response({"job": {"id": job.id}}, status=201, headers={"Location": f"/jobs/{job.id}"})

    async def _cancel(self, request: web.Request, job: Job) -> web.StreamResponse:
        trouble = self.cancel_trouble(job)
        if trouble.startswith("before "):
            return await self._troubled(request, trouble.removeprefix("before "))
        job.cancels += 1
        return await self._troubled(request, trouble) if trouble else web.Response(status=204)

    async def _troubled(self, request: web.Request, trouble: str) -> web.StreamResponse:
        match trouble:
            case "drop":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "hang":
                await asyncio.sleep(HANG)
                return web.Response(status=504)
            case "busy":
                return web.json_response({"error": "too many"}, status=429, headers={"Retry-After": "0"})
        return web.json_response({"error": f"told to answer {trouble}"}, status=int(trouble))


@asynccontextmanager
async def job_system() -> AsyncIterator[JobSystem]:
    """One that is running inside the block."""
    system = JobSystem()
    async with serving("*", "/{path:.*}", system.answer) as system.url:
        yield system
