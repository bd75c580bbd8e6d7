"""The jobs of the fleet: what each answers is a function of its path, so anyone can tell what a wait on it must end as.

A job's path is `/jobs/{behaviour}/{seconds}/{id}`: it runs for `seconds` from the first request that named it. Pure: no I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from math import exp
from statistics import NormalDist
from typing import Any, NamedTuple
from zlib import crc32

import orjson

#: The conditions that a wait on any job of the fleet carries.
CONDITIONS: Mapping[str, Any] = {
    "success_when": "body.status == 'SUCCEEDED'",
    "failure_when": "body.status == 'FAILED'",
    "response_error_codes_allowlist": ["404"],
}
#: How many seconds the second half of a slow answer takes.
SLOW_SECONDS = 0.3
#: The longest that an answer takes which comes at all, in seconds.
LATEST = 1.0
_NORMAL = NormalDist()


class Fault(Enum):
    """What a job does instead of answering."""

    UNAVAILABLE = "503"
    THROTTLED = "429 with Retry-After"
    HANGS = "no answer, the connection stays open"
    RESETS = "the connection is reset"
    TRUNCATES = "the connection is closed half-way through the body"
    SLOW = "the second half of the body comes later"


class Latency(NamedTuple):
    """How long answers take, log-normally distributed: half of them less than `median` seconds, and none more than LATEST."""

    median: float
    sigma: float

    def seconds(self, job_id: str, request: int) -> float:
        """Of the `request`-th answer about a job: the same in every run."""
        share = (crc32(f"{job_id}/{request}".encode()) + 0.5) / 2**32
        return min(self.median * exp(self.sigma * _NORMAL.inv_cdf(share)), LATEST)


class Outage(NamedTuple):
    """For the last `lasts` of every `every` seconds nobody gets anything but a 503, whatever they ask about."""

    every: float
    lasts: float

    def at(self, now: float) -> bool:
        """Whether it is on at that moment of the fleet's clock."""
        return now % self.every >= self.every - self.lasts


class Behaviour(NamedTuple):
    """One way of being a job.

    Attributes:
        ends: the state of a wait that lived to see the job's end: success, failed, or None (it has no end).
        pattern: the trouble of each request, over and over; None is an honest answer. It never stops, not even when the job is done.
        running: status and job status while it runs.
        ended: the status of its end.
        latency: how long answers take; None: no time.
        outage: when nobody is answered while it runs.
        lies: whether what it says while it runs looks like success, and is not.
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
        """Whether every poke of it is answered truly and at once, so that nothing but the poller decides when the next one comes."""
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
    """A job, as its path says."""

    behaviour: Behaviour
    seconds: float
    id: str


def job_of(path: str) -> Job:
    """The job that a path names. Raises ValueError: it names none."""
    match path.partition("?")[0].split("/"):
        case ["", "jobs", name, seconds, job_id] if name in BEHAVIOURS and job_id:
            return Job(BEHAVIOURS[name], float(seconds), job_id)
    raise ValueError(f"no job has the path {path}; it is /jobs/{{{'|'.join(BEHAVIOURS)}}}/{{seconds}}/{{id}}")


def path_of(behaviour: str, seconds: float, job_id: str) -> str:
    """The path of a job; the inverse of `job_of`."""
    return f"/jobs/{behaviour}/{seconds:g}/{job_id}"


def expected_state(job: Job, timeout: float) -> str:
    """The state in which a wait on `job` must end that lasts `timeout` seconds, if the job was first seen when it began."""
    if job.behaviour.ends is None or job.seconds >= timeout:
        return "timeout"
    return job.behaviour.ends


def answer(status: int, body: Mapping[str, Any], *headers: str) -> bytes:
    """A complete HTTP/1.1 answer with a JSON body."""
    return answer_of(status, orjson.dumps(body), "Content-Type: application/json", *headers)


def answer_of(status: int, content: bytes, *headers: str) -> bytes:
    """A complete HTTP/1.1 answer with any body."""
    lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


#: Answers with status 200, one after the other, that a careless reader takes for the end; none of them says that the job SUCCEEDED.
LIES: Sequence[bytes] = (
    answer(200, {"status": "succeeded"}),
    answer(200, {"status": "SUCCEEDED_PARTIALLY"}),
    answer(200, {"status": ["SUCCEEDED"]}),
    answer(200, {"state": "SUCCEEDED", "status": "RUNNING"}),
    answer(200, {"status": True, "message": "status: SUCCEEDED"}),
    answer(200, {"jobs": [{"status": "SUCCEEDED"}]}),
    answer_of(200, b"<html>status: SUCCEEDED - please sign in</html>", "Content-Type: text/html"),
    answer_of(200, b'{"status": "SUCCEEDED"', "Content-Type: application/json"),
    answer_of(200, b"", "Content-Type: application/json"),
)


def final_answer(job: Job) -> bytes:
    """What a job answers once it is done: its status and its id, so that an outcome can be traced to its job."""
    word = "SUCCEEDED" if job.behaviour.ends == "success" else "FAILED"
    return answer(job.behaviour.ended, {"status": word, "job": job.id})
