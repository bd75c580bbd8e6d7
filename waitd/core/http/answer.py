"""What an HTTP answer means: the table that turns a status and its judged conditions into a verdict, first match wins.

A poke that got no complete answer (row 1) never comes here: the client says `Unreachable` itself.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict

#: The server says itself that another time may be better.
RETRYABLE_STATUSES = frozenset({408, 425, 429})
#: The reason of an outcome whose payload was too large or no JSON.
RESULT_OMITTED = "result_omitted"


class Decision(Enum):
    """Which condition was true."""

    SUCCESS = "success"
    FAILURE = "failure"


class Evaluation(NamedTuple):
    """What the conditions said of one answer.

    Attributes:
        decision: the condition that was true, or None.
        message: what `message` evaluated to, or None.
        payload: the result, where there is a decision.
        omitted: the result is over its limit or no JSON; `payload` is None.
        note: why a condition could not be evaluated, for a person; "" if all could.
        means: what the answer of a job system means where there is no decision (`waitd.core.http.job_answer.Means`).
    """

    decision: Decision | None = None
    message: str | None = None
    payload: Any = None
    omitted: bool = False
    note: str = ""
    means: Enum | None = None


UNDECIDED = Evaluation()


class AnswerFacts(NamedTuple):
    """The facts of one complete answer.

    Attributes:
        status: of the last answer, after redirects within the origin.
        retry_after: seconds that the server asked to be left alone, or None.
        elsewhere: the other origin that it redirects to, or None.
        loop: it redirected within the origin more often than is followed.
    """

    status: int
    retry_after: float | None = None
    elsewhere: str | None = None
    loop: bool = False


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """The target wants other credentials: look them up afresh and ask again; `verdict` is what a second refusal comes to."""

    verdict: Failure


def condition_applies(status: int, names_status: bool) -> bool:
    """Whether a condition is asked about an answer: a 2xx always, any other only where the condition names `status`."""
    return names_status or 200 <= status < 300


def http_verdict(  # noqa: PLR0911 - one return per row of the table
    answered: AnswerFacts, judged: Evaluation, allowlist: Collection[int]
) -> Verdict | CredentialsRefused:
    """Rows 2 to 8 of the table. `allowlist`: statuses that mean "not yet"."""
    status = answered.status
    if judged.decision is not None:
        return _decided(status, judged)
    if status in allowlist:
        return _pending(status, judged.message, judged.note)
    if status in RETRYABLE_STATUSES or 500 <= status <= 599:
        return _not_now(status, answered.retry_after)
    if status == 401:
        return _unauthorized(judged.message)
    if answered.elsewhere is not None:
        return _redirected(answered.elsewhere)
    if answered.loop:
        return REDIRECT_LOOP
    if 300 <= status <= 399:
        return _not_now(status, None)
    if 400 <= status <= 499:
        return _refusal(status, judged.message)
    return _pending(status, judged.message, judged.note)


def status_phrase(status: int) -> str:
    """`HTTP 404 Not Found`, or the number alone where it has no name."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _decided(status: int, judged: Evaluation) -> Verdict:
    message = status_phrase(status) if judged.message is None else judged.message
    if judged.decision is Decision.SUCCESS:
        return Success(judged.payload, RESULT_OMITTED if judged.omitted else "success", message)
    return Failure(RESULT_OMITTED if judged.omitted else "failure", message, judged.payload)


# Verdicts are immutable and few: the common answers of a hundred thousand waits share one object each.


@lru_cache(maxsize=2048)
def _pending(status: int, message: str | None, note: str) -> Pending:
    if message is None:
        message = f"{status_phrase(status)}; {note}" if note else status_phrase(status)
    return Pending(f"http_{status}", message[:MESSAGE_LIMIT])


@lru_cache(maxsize=1024)
def _not_now(status: int, retry_after: float | None) -> Unreachable:
    return Unreachable(f"http_{status}", status_phrase(status), retry_after)


@lru_cache(maxsize=1024)
def _refusal(status: int, message: str | None) -> Failure:
    return Failure(f"http_{status}", status_phrase(status) if message is None else message, silenceable=True)


@lru_cache(maxsize=1024)
def _unauthorized(message: str | None) -> CredentialsRefused:
    return CredentialsRefused(_refusal(401, message))


@lru_cache(maxsize=1024)
def _redirected(elsewhere: str) -> CredentialsRefused:
    message = f"The target redirects to another origin, {elsewhere}; credentials are not sent there."
    return CredentialsRefused(Failure("redirected_elsewhere", message[:MESSAGE_LIMIT], silenceable=True))


REDIRECT_LOOP = Unreachable("redirect_loop", "The target redirects in a loop, or too often.")
