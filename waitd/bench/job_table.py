"""The jobs of the requests to a job server, and its answers.

Pure: the clock is a parameter.
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from waitd.bench.jobs import LIES, Fault, Job, answer, final_answer, parse_job

_RUNNING = {status: answer(status, {"status": "RUNNING"}) for status in (202, 404)}
_REFUSALS = {
    Fault.UNAVAILABLE: answer(503, {"error": "the scheduler is restarting"}),
    Fault.THROTTLED: answer(429, {"error": "slow down"}, "Retry-After: 1"),
}
#: Faults with which no complete answer arrives.
_INCOMPLETE = {*Fault} - {Fault.SLOW}
#: What disturbs an answer: nothing, a fault, or a delay in seconds.
Disturbance = Fault | float | None
#: Upper bounds of the histogram of gaps between two requests about a job: 1 % apart, from 1 ms to
#: half an hour.
GAPS = tuple(0.001 * 1.01**n for n in range(1450))
#: Each arrival of a request about a job is recorded if the job's id contains this.
RECORDED = "watched"


class RunningJob:
    """A job, from the first request about it on."""

    __slots__ = ("arrivals", "final", "first_seen", "job", "last_seen", "plain", "reported", "requests")

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.first_seen = now
        self.last_seen = now
        self.requests = 0
        #: Whether a complete answer has said that the job ended.
        self.reported = False
        self.final = final_answer(job)
        self.plain = job.behaviour.plain
        #: Unix seconds of its requests; None where they are not recorded.
        self.arrivals: list[float] | None = [] if RECORDED in job.id else None

    def count_request(self, now: float) -> tuple[bool, Disturbance]:
        """Counts a request; returns whether the job has ended and what disturbs the answer."""
        behaviour = self.job.behaviour
        disturbance: Disturbance = behaviour.pattern[self.requests % len(behaviour.pattern)]
        self.requests += 1
        ended = self.ended(now)
        if behaviour.latency is not None:
            disturbance = behaviour.latency.seconds(self.job.id, self.requests)
        elif behaviour.outage is not None and not ended and behaviour.outage.at(now):
            disturbance = Fault.UNAVAILABLE
        self.reported = self.reported or (ended and disturbance not in _INCOMPLETE)
        return ended, disturbance

    def ended(self, now: float) -> bool:
        """Whether the job has ended by `now`."""
        return self.job.behaviour.ends is not None and now - self.first_seen >= self.job.seconds

    def answer(self, now: float) -> tuple[bytes, Disturbance]:
        """Counts a request; returns the answer and what disturbs it."""
        ended, disturbance = self.count_request(now)
        if disturbance in _REFUSALS:
            return _REFUSALS[disturbance], None
        if ended:
            return self.final, disturbance
        behaviour = self.job.behaviour
        if behaviour.lies:
            return LIES[self.requests % len(LIES)], disturbance
        return _RUNNING[behaviour.running], disturbance


class JobTable:
    """All jobs that were polled, by path."""

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.wall_clock = wall_clock
        self.jobs: dict[bytes, RunningJob] = {}
        self.requests = 0
        #: Histogram of the gaps between two requests about a plain job; see GAPS.
        self.gaps = [0] * (len(GAPS) + 1)
        self._first_at: float | None = None

    def answer(self, path: bytes, method: bytes = b"GET") -> tuple[bytes, Disturbance]:  # noqa: ARG002 - a RequestHandler
        """The answer to a request for `path`, and what disturbs it."""
        now = self.clock()
        if path not in self.jobs:
            match path:
                case b"/report":
                    return answer(200, self.report()), None
                case b"/tally":
                    return answer(200, self.tally()), None
                case b"/arrivals":
                    return answer(200, self.take_arrivals()), None
        try:
            return self.find_polled(path, now).answer(now)
        except ValueError as error:
            return answer(400, {"error": str(error)}), None

    def find_polled(self, path: bytes, now: float) -> RunningJob:
        """The job of a path, which starts with the first request about it; counts the request.

        Raises:
            ValueError: no job has that path.
        """
        self.requests += 1
        if self._first_at is None:
            self._first_at = self.wall_clock()
        running = self.jobs.get(path)
        if running is None:
            running = self.jobs[path] = RunningJob(parse_job(path.decode("ascii")), now)
        else:
            if running.plain:
                self.gaps[bisect_left(GAPS, now - running.last_seen)] += 1
            running.last_seen = now
        if running.arrivals is not None:
            running.arrivals.append(self.wall_clock())
        return running

    def tally(self) -> dict[str, Any]:
        """The numbers of `requests` and `jobs`, and the histogram `gaps`; see GAPS."""
        return {"requests": self.requests, "jobs": len(self.jobs), "gaps": self.gaps}

    def report(self) -> dict[str, Any]:
        """The number of `requests`, and what became of each job, by path.

        Of each job: `requests`; `age` and `polled_for`, seconds since the first request until now
        and until the last one; `reported`, whether a complete answer said that it ended; `done_at`,
        the Unix second when it ended, or None.
        """
        now = self.clock()
        offset = self.wall_clock() - now
        return {
            "requests": self.requests,
            "jobs": {
                path.decode(): {
                    "requests": r.requests,
                    "age": now - r.first_seen,
                    "polled_for": r.last_seen - r.first_seen,
                    "reported": r.reported,
                    "done_at": offset + r.first_seen + r.job.seconds if r.ended(now) else None,
                }
                for path, r in self.jobs.items()
            },
        }

    def take_arrivals(self) -> dict[str, Any]:
        """What arrived since the last call, in Unix seconds.

        `first_at` is the first request about any job, or None; `arrivals` are those about each
        recorded job (RECORDED), by path.
        """
        arrivals = {path.decode(): job.arrivals for path, job in self.jobs.items() if job.arrivals}
        first_at, self._first_at = self._first_at, None
        for job in self.jobs.values():
            if job.arrivals:
                job.arrivals = []
        return {"first_at": first_at, "arrivals": arrivals}
