"""The jobs of the job server.

What a job answers depends only on its path, so the outcome of a wait is known.

The path is `/jobs/{behaviour}/{seconds}/{id}`: the job runs for `seconds` from the first request
about it on. Pure: no I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from math import exp
from statistics import NormalDist
from typing import Any, NamedTuple
from zlib import crc32

import orjson

#: The conditions of a wait on any job.
CONDITIONS: Mapping[str, Any] = {
    "success_when": "body.status == 'SUCCEEDED'",
    "failure_when": "body.status == 'FAILED'",
    "response_error_codes_allowlist": ["404"],
}
#: Seconds until the second half of a slow answer follows.
SLOW_SECONDS = 0.3
#: The longest latency of an answer, in seconds.
MAX_LATENCY = 1.0
_NORMAL = NormalDist()


class Fault(Enum):
    """How a job fails to answer."""

    UNAVAILABLE = "503"
    THROTTLED = "429 with Retry-After"
    HANGS = "no answer; the connection stays open"
    RESETS = "the connection is reset"
    TRUNCATES = "the connection is closed in the middle of the body"
    SLOW = "the second half of the body arrives late"


class Latency(NamedTuple):
    """A log-normal distribution of latencies in seconds, cut off at MAX_LATENCY."""

    median: float
    sigma: float

    def seconds(self, job_id: str, request: int) -> float:
        """The latency of the `request`-th answer about a job; the same in every run."""
        share = (crc32(f"{job_id}/{request}".encode()) + 0.5) / 2**32
        return min(self.median * exp(self.sigma * _NORMAL.inv_cdf(share)), MAX_LATENCY)


class Outage(NamedTuple):
    """In the last `lasts` of every `every` seconds each request is answered 503."""

    every: float
    lasts: float

    def at(self, now: float) -> bool:
        """Whether the outage is on at that time of the server's clock."""
        return now % self.every >= self.every - self.lasts


class Behaviour(NamedTuple):
    """How jobs of one kind behave.

    Attributes:
        ends: the state of a wait that is still there when the job ends: success or failed; None:
            the job never ends.
        pattern: the fault of each request, repeated for ever, even after the end; None is a true
            answer.
        running: the status while the job runs.
        ended: the status when it has ended.
        latency: how late answers arrive; None: at once.
        outage: when every request is answered 503 while the job runs.
        lies: whether answers look like success while the job runs, but are not.
    """

    ends: str | None
    pattern: tuple[Fault | None, ...] = (None,)
    running: int = 202
    ended: int = 200
    latency: Latency | None = None
    outage: Outage | None = None
    lies: bool = False

    @property
    def plain(self) -> bool:
        """Whether every answer is true and immediate, so that only the poller times a poke."""
        return self.pattern == (None,) and self.latency is None and self.outage is None and not self.lies


BEHAVIOURS: Mapping[str, Behaviour] = {
    "succeed": Behaviour("success"),
    "fail": Behaviour("failed"),
    "endless": Behaviour(None),
    "absent": Behaviour("success", running=404),
    "forbidden": Behaviour("failed", ended=403),
    "unavailable": Behaviour("success", (Fault.UNAVAILABLE,) * 3 + (None,) * 2),
    "throttled": Behaviour("success", (None, Fault.THROTTLED)),
    "hangs": Behaviour("success", (None, None, Fault.HANGS)),
    "dead": Behaviour(None, (Fault.HANGS,)),
    "resets": Behaviour("success", (Fault.RESETS, None)),
    "truncates": Behaviour("success", (Fault.TRUNCATES, None)),
    "slow": Behaviour("success", (Fault.SLOW,)),
    "latent": Behaviour("success", latency=Latency(0.02, 1.0)),
    "outages": Behaviour("success", outage=Outage(7.0, 1.0)),
    "lies": Behaviour("success", lies=True),
    "liar": Behaviour(None, lies=True),
    "missing": Behaviour(None, running=404),
}


class Job(NamedTuple):
    """A job, as its path describes it."""

    behaviour: Behaviour
    seconds: float
    id: str


def parse_job(path: str) -> Job:
    """Parses a job's path. Raises ValueError: it is no such path."""
    match path.partition("?")[0].split("/"):
        case ["", "jobs", name, seconds, job_id] if name in BEHAVIOURS and job_id:
            return Job(BEHAVIOURS[name], float(seconds), job_id)
    raise ValueError(
        f"no job has the path {path}; a job's path is /jobs/{{{'|'.join(BEHAVIOURS)}}}/{{seconds}}/{{id}}"
    )


def job_path(behaviour: str, seconds: float, job_id: str) -> str:
    """The path of a job; the inverse of `parse_job`."""
    return f"/jobs/{behaviour}/{seconds:g}/{job_id}"


def expected_state(job: Job, timeout: float) -> str:
    """The state in which a wait must end if its first poke starts the job."""
    if job.behaviour.ends is None or job.seconds >= timeout:
        return "timeout"
    return job.behaviour.ends


def answer(status: int, body: Mapping[str, Any], *headers: str) -> bytes:
    """A complete HTTP/1.1 response with a JSON body."""
    return raw_answer(status, orjson.dumps(body), "Content-Type: application/json", *headers)


def raw_answer(status: int, content: bytes, *headers: str) -> bytes:
    """A complete HTTP/1.1 response with any body."""
    lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


#: Answers with status 200 that a careless reader takes for success; none has the status SUCCEEDED.
LIES: Sequence[bytes] = (
    answer(200, {"status": "succeeded"}),
    answer(200, {"status": "SUCCEEDED_PARTIALLY"}),
    answer(200, {"status": ["SUCCEEDED"]}),
    answer(200, {"state": "SUCCEEDED", "status": "RUNNING"}),
    answer(200, {"status": True, "message": "status: SUCCEEDED"}),
    answer(200, {"jobs": [{"status": "SUCCEEDED"}]}),
    raw_answer(200, b"<html>status: SUCCEEDED - please sign in</html>", "Content-Type: text/html"),
    raw_answer(200, b'{"status": "SUCCEEDED"', "Content-Type: application/json"),
    raw_answer(200, b"", "Content-Type: application/json"),
)


def final_answer(job: Job) -> bytes:
    """The answer of a job that has ended; its id ties an outcome to its job."""
    status = "SUCCEEDED" if job.behaviour.ends == "success" else "FAILED"
    return answer(job.behaviour.ended, {"status": status, "job": job.id})
