"""A fleet that lies about the end: jobs that fail say that they succeeded. `python -m lying_job_server`, as `waitd.bench.job_server`."""

from waitd.bench import job_server as fleet
from waitd.bench.jobs import BEHAVIOURS, Job, final_answer


def lie(job: Job) -> bytes:
    return final_answer(job._replace(behaviour=BEHAVIOURS["succeed"]))


if __name__ == "__main__":
    fleet.final_answer = lie  # type: ignore[attr-defined]  # imported there, and broken here on purpose
    fleet.main()
