"""Checks each wait's outcome against what its job did. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from waitd.bench.jobs import expected_state, parse_job
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.s3 import files_of_job


class SubmittedWait(NamedTuple):
    """A wait that was submitted.

    Attributes:
        id: its id; "" if the daemon did not accept it.
        path: the path of its job.
        timeout: seconds.
        expected: the state in which it must end.
        kind: its kind.
    """

    id: str
    path: str
    timeout: float
    expected: str
    kind: str = "http"


def submitted_wait(body: Mapping[str, Any], result: Mapping[str, Any]) -> SubmittedWait:
    """A submitted wait, from its body and the daemon's result for it."""
    params, timeout = body["params"], body["timeout"]
    target = params.get("endpoint") or params.get("bucket_key") or f"/{params['prefix']}"
    path = "/".join(target[target.index("/jobs/") :].split("/")[:5])
    expected = expected_state(parse_job(path), timeout)
    return SubmittedWait(result.get("id", ""), path, timeout, expected, body["kind"])


@dataclass(frozen=True, slots=True)
class CorrectnessReport:
    """The outcomes of a run, as counts of waits.

    Attributes:
        submitted: waits submitted; those that the daemon did not accept count as lost.
        succeeded, failed, timed_out: outcomes received.
        delivered: waits with at least one accepted callback.
        refused: callbacks that the receiver refused on purpose and the daemon repeated.
        delivered_twice: waits with more than one accepted callback; delivery is at least once, so
            this is no defect.
        lost: waits without a callback, or that the daemon does not store as ended.
        wrong: outcomes that contradict the job: another state, another job's answer, a success that
            no answer reported, a timeout before the deadline.
        badly_signed: waits with a callback whose signature is invalid.
        changed: waits whose event had different bytes in different attempts.
        daemon_exit_code: of the drain at the end.
        kinds: the number of submitted waits by kind.
        complaints: one sentence for each of the first ten defects.
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
    complaints: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether there is no defect."""
        return not (self.lost or self.wrong or self.badly_signed or self.changed or self.daemon_exit_code)

    def as_json(self) -> dict[str, Any]:
        """All values, for JSON."""
        return {**asdict(self), "good": self.good}


def check_outcomes(
    submitted: Sequence[SubmittedWait],
    stored: Sequence[Mapping[str, Any]],
    received: Mapping[str, ReceivedCallbacks],
    reported: Collection[str],
    *,
    daemon_exit_code: int,
) -> CorrectnessReport:
    """Checks all submitted waits.

    Args:
        submitted: the waits.
        stored: the waits as the daemon's API returns them at the end.
        received: what the receiver got, by wait id.
        reported: the paths of the jobs that reported their end in a complete answer.
        daemon_exit_code: of the drain at the end.
    """
    by_id = {wait["id"]: wait for wait in stored}
    lost: list[str] = []
    wrong: list[str] = []
    states: Counter[str] = Counter()
    for wait in submitted:
        event = received[wait.id].event if wait.id in received else None
        if event is None or by_id.get(wait.id, {}).get("state", "waiting") == "waiting":
            lost.append(f"{wait.id}: no outcome of {wait.path}")
            continue
        states[event["data"]["state"]] += 1
        if complaint := _complaint(wait, event["data"], by_id[wait.id], reported):
            wrong.append(f"{wait.id}: {complaint} ({wait.path})")
    callbacks = [received[wait.id] for wait in submitted if wait.id in received]
    return CorrectnessReport(
        submitted=len(submitted),
        succeeded=states["success"],
        failed=states["failed"],
        timed_out=states["timeout"],
        delivered=sum(c.accepted > 0 for c in callbacks),
        refused=sum(c.refused for c in callbacks),
        delivered_twice=sum(c.accepted > 1 for c in callbacks),
        lost=len(lost),
        wrong=len(wrong),
        badly_signed=sum(c.badly_signed > 0 for c in callbacks),
        changed=sum(len(c.digests) > 1 for c in callbacks),
        daemon_exit_code=daemon_exit_code,
        kinds=dict(Counter(wait.kind for wait in submitted).most_common()),
        complaints=tuple((lost + wrong)[:10]),
    )


def _complaint(
    wait: SubmittedWait, data: Mapping[str, Any], stored: Mapping[str, Any], reported: Collection[str]
) -> str | None:
    state = data["state"]
    if state != wait.expected:
        return f"ended as {state}, must be {wait.expected}: {data['message'] or data['reason']}"
    if state != stored["state"]:
        return f"was delivered as {state} and is stored as {stored['state']}"
    if state == "timeout":
        # RFC 3339 in UTC with the same number of digits: text compares as time does.
        return "timed out before its deadline" if data["finished_at"] < stored["deadline"] else None
    if wait.path not in reported:
        return "has an outcome that its job never reported"
    if state == "success" and not _is_of_job(data["payload"], wait):
        return "carries the answer of another job"
    return None


def _is_of_job(payload: Any, wait: SubmittedWait) -> bool:
    """Whether the payload of a success is that of the wait's own job."""
    job = parse_job(wait.path)
    match wait.kind:
        case "http":
            return isinstance(payload, dict) and payload.get("job") == job.id
        case "s3_keys_unchanged":
            files = files_of_job(job, job.seconds, ended=True)
            return isinstance(payload, dict) and payload.get("objects") == len(files)
    prefix = wait.path.removeprefix("/") + "/"
    return bool(payload) and all(file["Key"].startswith(prefix) for file in payload)
