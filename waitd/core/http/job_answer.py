"""Turns the response of a job API into a verdict. Only a state on a closed list ends a wait.

These rows come before those of `waitd.core.http.answer`, which handles every response that says
nothing about the job.

| Response                                            | Verdict                                   |
|-----------------------------------------------------|-------------------------------------------|
| a state listed as success, failure or running       | Success, Failure, Pending `running`       |
| a 2xx with an unlisted state                        | Pending `unknown_state`                   |
| a 2xx without a state: HTML, not JSON, another shape | Unreachable `malformed_answer`           |
| no such job: a 404, or the vendor's equivalent      | Failure `not_found`, after a grace period |
| the vendor's equivalent of a 429                    | Unreachable `throttled`                   |
| the vendor's equivalent of a 401                    | the credentials are refreshed             |
"""

from enum import Enum
from functools import lru_cache

from waitd.core.http.answer import AnswerFacts, CredentialsRefused, Evaluation, http_verdict, status_phrase
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Unreachable, Verdict

#: A job's state as the job system writes it.
JobState = str | int

RUNNING, UNKNOWN_STATE, NOT_FOUND = "running", "unknown_state", "not_found"


class JobAnswerKind(Enum):
    """What a response means besides success and failure; presets use these values."""

    RUNNING = "running"
    UNKNOWN = "unknown"
    MALFORMED = "malformed"
    NOT_NOW = "not_now"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"


def job_verdict(facts: AnswerFacts, evaluation: Evaluation) -> Verdict | CredentialsRefused:  # noqa: PLR0911 - one return per row of the table
    """The verdict of one response; `evaluation.job_answer` counts where there is no decision."""
    kind, message = evaluation.job_answer, evaluation.message
    if kind is JobAnswerKind.RUNNING:
        return _running(message or "")
    if evaluation.decision is not None:
        return http_verdict(facts, evaluation, ())
    if kind is JobAnswerKind.UNKNOWN:
        return Pending(UNKNOWN_STATE, (message or "")[:MESSAGE_LIMIT])
    if kind is JobAnswerKind.MALFORMED:
        return _malformed(facts.status, evaluation.note)
    if kind is JobAnswerKind.NOT_NOW:
        return Unreachable("throttled", message or status_phrase(facts.status), facts.retry_after)
    if kind is JobAnswerKind.UNAUTHORIZED:
        return _unauthorized(facts.status, message)
    if kind is JobAnswerKind.NOT_FOUND or facts.status == 404:
        return _not_found(facts.status, message)
    return http_verdict(facts, evaluation, ())


def state_message(state: JobState) -> str:
    """The message for a job whose system reports nothing but its state."""
    return f"The state is {state}."[:MESSAGE_LIMIT] if state != "" else "The state is empty."


@lru_cache(maxsize=4096)
def _running(message: str) -> Pending:
    return Pending(RUNNING, message[:MESSAGE_LIMIT])


@lru_cache(maxsize=256)
def _malformed(status: int, note: str) -> Unreachable:
    message = f"{status_phrase(status)}, and the answer does not say the job's state"
    return Unreachable("malformed_answer", (f"{message}: {note}" if note else f"{message}.")[:MESSAGE_LIMIT])


@lru_cache(maxsize=256)
def _unauthorized(status: int, message: str | None) -> CredentialsRefused:
    return CredentialsRefused(Failure(f"http_{status}", message or status_phrase(status), silenceable=True))


@lru_cache(maxsize=256)
def _not_found(status: int, message: str | None) -> Failure:
    detail = status_phrase(status) if message is None else message
    return Failure(NOT_FOUND, f"Not found: {detail}"[:MESSAGE_LIMIT], silenceable=True)
