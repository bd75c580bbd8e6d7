"""What the answer of a job system means: a state on a closed list decides, and what is on no list never ends a wait.

The rows before those of `waitd.core.http.answer`, which stand for every answer that says nothing about the job.

| Answer                                                       | Verdict                                                       |
|--------------------------------------------------------------|---------------------------------------------------------------|
| its state is on the list of success, failure, running        | Success, Failure, Pending `running`                           |
| a 2xx with a state that is on no list                        | Pending `unknown_state`                                       |
| a 2xx without a state: HTML, no JSON, another shape          | Unreachable `malformed_answer`                                |
| the job is not there: a 404, or what the vendor says instead | Failure `not_found`; the probe gives it a while               |
| what the vendor says instead of a 429, of a 401              | Unreachable `throttled`; the credentials are looked up afresh |
"""

from enum import Enum
from functools import lru_cache

from waitd.core.http.answer import AnswerFacts, CredentialsRefused, Evaluation, http_verdict, status_phrase
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Unreachable, Verdict

#: A job's state as its system writes it.
JobState = str | int

RUNNING, UNKNOWN_STATE, NOT_FOUND = "running", "unknown_state", "not_found"


class JobAnswerKind(Enum):
    """What an answer means beside success and failure, in the words of a preset."""

    RUNNING = "running"
    UNKNOWN = "unknown"
    MALFORMED = "malformed"
    NOT_NOW = "not_now"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"


def job_verdict(answered: AnswerFacts, judged: Evaluation) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - a row of the table each
    """The verdict of one answer; `judged.means` says what it means where no decision was made."""
    means, message = judged.means, judged.message
    if means is JobAnswerKind.RUNNING:
        return _running(message or "")
    if judged.decision is not None:
        return http_verdict(answered, judged, ())
    if means is JobAnswerKind.UNKNOWN:
        return Pending(UNKNOWN_STATE, (message or "")[:MESSAGE_LIMIT])
    if means is JobAnswerKind.MALFORMED:
        return _malformed(answered.status, judged.note)
    if means is JobAnswerKind.NOT_NOW:
        return Unreachable("throttled", message or status_phrase(answered.status), answered.retry_after)
    if means is JobAnswerKind.UNAUTHORIZED:
        return _unauthorized(answered.status, message)
    if means is JobAnswerKind.NOT_FOUND or answered.status == 404:
        return _not_found(answered.status, message)
    return http_verdict(answered, judged, ())


def state_message(state: JobState) -> str:
    """What is said of a job where its system says no more than its state."""
    return f"The state is {state}."[:MESSAGE_LIMIT] if state != "" else "The state is empty."


@lru_cache(maxsize=4096)
def _running(message: str) -> Pending:
    return Pending(RUNNING, message[:MESSAGE_LIMIT])


@lru_cache(maxsize=256)
def _malformed(status: int, note: str) -> Unreachable:
    said = f"{status_phrase(status)}, and the answer does not say the job's state"
    return Unreachable("malformed_answer", (f"{said}: {note}" if note else f"{said}.")[:MESSAGE_LIMIT])


@lru_cache(maxsize=256)
def _unauthorized(status: int, message: str | None) -> CredentialsRefused:
    return CredentialsRefused(Failure(f"http_{status}", message or status_phrase(status), silenceable=True))


@lru_cache(maxsize=256)
def _not_found(status: int, message: str | None) -> Failure:
    said = f"It is not there. {status_phrase(status) if message is None else message}"
    return Failure(NOT_FOUND, said[:MESSAGE_LIMIT], silenceable=True)
