"""A job server that lies: jobs that fail report success. `python -m lying_job_server`."""

from waitd.bench import job_server, job_table
from waitd.bench.jobs import BEHAVIOURS, Job, final_answer


def report_success(job: Job) -> bytes:
    return final_answer(job._replace(behaviour=BEHAVIOURS["succeed"]))


if __name__ == "__main__":
    job_table.final_answer = report_success  # type: ignore[attr-defined]  # broken on purpose
    job_server.main()
