"""The account of a run: what was submitted against what became of it. Pure; anything but zero in its bad columns is a defect."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from waitd.bench.jobs import expected_state, job_of
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.s3 import files_of_job


class SubmittedWait(NamedTuple):
    """A wait as it was handed in.

    Attributes:
        id: its id; "" where the daemon did not take it.
        path: the path of its job.
        timeout: seconds.
        expected: the state in which it must end.
        kind: how it looks at its job.
    """

    id: str
    path: str
    timeout: float
    expected: str
    kind: str = "http"


def submitted_wait(body: Mapping[str, Any], answer: Mapping[str, Any]) -> SubmittedWait:
    """A wait as it was handed in, from its body and the daemon's answer."""
    params, timeout = body["params"], body["timeout"]
    place = params.get("endpoint") or params.get("bucket_key") or f"/{params['prefix']}"
    path = "/".join(place[place.index("/jobs/") :].split("/")[:5])
    return SubmittedWait(
        answer.get("id", ""), path, timeout, expected_state(job_of(path), timeout), body["kind"]
    )


@dataclass(frozen=True, slots=True)
class CorrectnessReport:
    """Counts of waits.

    Attributes:
        submitted: waits handed in; those the daemon did not take are among the lost.
        succeeded, failed, timed_out: the outcomes that were received.
        delivered: waits whose outcome the receiver took at least once.
        refused: callbacks that it refused on purpose, and that were tried again.
        delivered_twice: waits whose outcome it took more than once (at least once is the promise, so this is no defect).
        lost: waits whose outcome never came, or that the daemon does not hold as ended.
        wrong: outcomes that are not what the job server said: another state, another job's answer, a success nobody told, an early timeout.
        badly_signed: waits with a callback whose signature did not verify.
        changed: waits whose event was not the same bytes each time.
        daemon_exit_code: of the drain at the end.
        kinds: how many of those submitted are of which kind.
    """

    submitted: int
    succeeded: int
    failed: int
    timed_out: int
    delivered: int
    refused: int
    delivered_twice: int
    lost: int
    wrong: int
    badly_signed: int
    changed: int
    daemon_exit_code: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    #: What is wrong, a sentence each, for the first few.
    complaints: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.wrong or self.badly_signed or self.changed or self.daemon_exit_code)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {**asdict(self), "good": self.good}


def check_outcomes(
    submitted: Sequence[SubmittedWait],
    stored: Sequence[Mapping[str, Any]],
    heard: Mapping[str, ReceivedCallbacks],
    told: Collection[str],
    *,
    daemon_exit_code: int,
) -> CorrectnessReport:
    """The account of `submitted` waits.

    Args:
        submitted: what was handed in.
        stored: the waits as the daemon's API shows them at the end.
        heard: what the receiver heard, by wait.
        told: the paths of the jobs that told somebody their end.
        daemon_exit_code: of the drain at the end.
    """
    by_id = {wait["id"]: wait for wait in stored}
    lost: list[str] = []
    wrong: list[str] = []
    states: dict[str, int] = {}
    for wait in submitted:
        event = heard[wait.id].event if wait.id in heard else None
        if event is None or by_id.get(wait.id, {}).get("state", "waiting") == "waiting":
            lost.append(f"{wait.id}: no outcome of {wait.path}")
            continue
        state = event["data"]["state"]
        states[state] = states.get(state, 0) + 1
        complaint = _complaint(wait, event["data"], by_id[wait.id], told)
        if complaint:
            wrong.append(f"{wait.id}: {complaint} ({wait.path})")
    ours = [heard[wait.id] for wait in submitted if wait.id in heard]
    return CorrectnessReport(
        submitted=len(submitted),
        succeeded=states.get("success", 0),
        failed=states.get("failed", 0),
        timed_out=states.get("timeout", 0),
        delivered=sum(h.accepted > 0 for h in ours),
        refused=sum(h.refused for h in ours),
        delivered_twice=sum(h.accepted > 1 for h in ours),
        lost=len(lost),
        wrong=len(wrong),
        badly_signed=sum(h.badly_signed > 0 for h in ours),
        changed=sum(len(h.digests) > 1 for h in ours),
        daemon_exit_code=daemon_exit_code,
        kinds=dict(Counter(wait.kind for wait in submitted).most_common()),
        complaints=tuple((lost + wrong)[:10]),
    )


def _complaint(
    wait: SubmittedWait, data: Mapping[str, Any], stored: Mapping[str, Any], told: Collection[str]
) -> str | None:
    state = data["state"]
    if state != wait.expected:
        return f"ended as {state}, must be {wait.expected}: {data['message'] or data['reason']}"
    if state != stored["state"]:
        return f"was delivered as {state} and is stored as {stored['state']}"
    if state == "timeout":
        # RFC 3339 in UTC with the same number of digits: text compares as time does.
        return "timed out before its deadline" if data["finished_at"] < stored["deadline"] else None
    if wait.path not in told:
        return "has an outcome that its job never told"
    if state == "success" and not _is_of(wait, data["payload"]):
        return "carries the answer of another job"
    return None


def _is_of(wait: SubmittedWait, payload: Any) -> bool:
    """Whether a success's payload is what the wait's own job, once done, has to show."""
    job = job_of(wait.path)
    match wait.kind:
        case "http":
            return isinstance(payload, dict) and payload.get("job") == job.id
        case "s3_keys_unchanged":
            everything = files_of_job(job, job.seconds, ended=True)
            return isinstance(payload, dict) and payload.get("objects") == len(everything)
    below = wait.path.removeprefix("/") + "/"
    return bool(payload) and all(file["Key"].startswith(below) for file in payload)
