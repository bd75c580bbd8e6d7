"""Turns an HTTP response and its evaluated conditions into a verdict. The first matching row wins.

Row 1 of the table, a poke without a complete response, is decided by the HTTP client: it returns
`Unreachable` itself.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from waitd.core.http.headers import DEFAULT_RATE_LIMIT_PAUSE
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict

#: Statuses below 500 with which a server asks for a retry: 408 Request Timeout, 425 Too Early, 429.
RETRYABLE_STATUSES = frozenset({408, 425, 429})
#: What servers send instead of a 401 for a session or token that has expired: Laravel, IIS, ArcGIS.
EXPIRED_STATUSES = frozenset({419, 440, 498})
#: The codes of AWS's JSON services for a key that another one may replace.
_REFUSED_KEY = re.compile(
    rb'(?:ExpiredToken|RequestExpired|TokenRefreshRequired|InvalidClientTokenId|UnrecognizedClient|InvalidSignature)[A-Za-z]{0,32}"'
)
#: How vendors say in the body of a 403 that it is a rate limit: Google's reasons, the messages of
#: GitHub and Salesforce, AWS's codes. The word alone may be part of a link to the documentation.
_RATE_LIMIT = re.compile(
    rb"rate[ _-]?limit(?:s? (?:has been |was |is )?|[ _-])?(?:ed|exceeded|reached)\b"
    rb"|exceeded (?:a|an|the|your)[a-z ]{0,20} rate[ _-]?limit"
    rb"|(?:request|daily|user|call|concurrent)[ _]?limit[ _]?exceeded"
    rb"|quota[ _]?exceeded|too ?many ?requests|\bthrottl(?:ed|ing)(?:exception)?\b|slow ?down",
    re.IGNORECASE,
)
#: How a body says that the credentials have expired: then it means no rate limit.
_EXPIRED = re.compile(rb"expired|invalid[ _-]token", re.IGNORECASE)
#: AWS's codes of one, also for a 400.
_THROTTLING = re.compile(
    rb'(?:Throttl|TooManyRequests|RequestLimitExceeded|ThroughputExceeded|SlowDown)[A-Za-z]{0,32}"'
)
#: These are searched in so many bytes: an error's code is at the start, and the event loop waits.
_SEARCHED = 8192
_V = TypeVar("_V")
#: The reason of an outcome whose payload was over its size limit or was not JSON.
RESULT_OMITTED = "result_omitted"


class Decision(Enum):
    """Which of the two conditions was true."""

    SUCCESS = "success"
    FAILURE = "failure"


class Evaluation(NamedTuple):
    """What a wait's conditions evaluated to for one response.

    Attributes:
        decision: the condition that was true, or None.
        message: what the expression `message` evaluated to, or None.
        payload: the result, where there is a decision.
        payload_omitted: the result was over its limit or was not JSON, so `payload` is None.
        note: why a condition could not be evaluated, in words; "" if all could.
        job_answer: for a job API without a decision, a `waitd.core.http.job_answer.JobAnswerKind`.
    """

    decision: Decision | None = None
    message: str | None = None
    payload: Any = None
    payload_omitted: bool = False
    note: str = ""
    job_answer: Enum | None = None


UNDECIDED = Evaluation()


class AnswerFacts(NamedTuple):
    """What the verdict needs to know of one complete response.

    Attributes:
        status: the status of the last response, after redirects within the origin.
        retry_after: the parsed `Retry-After` header in seconds, or None.
        redirect_origin: the other origin to which the target redirects, or None.
        redirect_loop: the target redirected within its origin more often than is followed.
    """

    status: int
    retry_after: float | None = None
    redirect_origin: str | None = None
    redirect_loop: bool = False


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """The target refused the credentials: the probe refreshes them and repeats the request once.

    Attributes:
        verdict: the verdict if the fresh credentials are refused, too.
        repeat_unchanged: whether to repeat the request if there are no other credentials. A 403
            says rather that these ones lack a right.
    """

    verdict: Failure | Unreachable
    repeat_unchanged: bool = True


def refuses_credentials(status: int, content: bytes | None) -> bool:
    """Whether an answer says that other credentials may help, whatever else the status means.

    AWS's JSON services answer 400 to an expired or unknown key, with its code in the body.
    """
    return status in {401, 403} or (
        status == 400 and _REFUSED_KEY.search((content or b"")[:_SEARCHED]) is not None
    )


def says_rate_limit(status: int, content: bytes | None) -> bool:
    """Whether the body of a 403 or 400 says that the request is one too many."""
    pattern = {403: _RATE_LIMIT, 400: _THROTTLING}.get(status)
    if pattern is None or not content:
        return False
    start = content[:_SEARCHED]
    return pattern.search(start) is not None and _EXPIRED.search(start) is None


def rate_limited(status: int) -> Unreachable:
    """The verdict on an answer of which `says_rate_limit` is true and that names no time."""
    return Unreachable(f"http_{status}", f"{status_phrase(status)}: a rate limit", DEFAULT_RATE_LIMIT_PAUSE)


def condition_applies(status: int, names_status: bool) -> bool:
    """Whether a condition is evaluated for a response with this status.

    It always is for a 2xx; for any other status only if the condition names `status` itself.
    """
    return names_status or 200 <= status < 300


def http_verdict(  # noqa: PLR0911 - one return per row of the table
    facts: AnswerFacts, evaluation: Evaluation, allowlist: Collection[int]
) -> Verdict | CredentialsRefused:
    """Applies rows 2 to 8 of the table for the kind `http`.

    Args:
        facts: the response.
        evaluation: what the conditions evaluated to for it.
        allowlist: statuses that mean "not yet" (`response_error_codes_allowlist`).
    """
    status = facts.status
    if evaluation.decision is not None:
        return _decided(status, evaluation)
    if status in allowlist:
        return _pending(status, evaluation.message, evaluation.note)
    if status in RETRYABLE_STATUSES or 500 <= status <= 599:
        return _retryable(status, facts.retry_after)
    if facts.redirect_origin is not None:
        return _redirected(facts.redirect_origin)
    if facts.redirect_loop:
        return REDIRECT_LOOP
    if 300 <= status <= 399:
        return _retryable(status, facts.retry_after)
    if 400 <= status <= 499:
        return _client_error(status, facts.retry_after, evaluation.message)
    return _pending(status, evaluation.message, evaluation.note)


def without_refusal(verdict: Verdict | CredentialsRefused) -> Verdict | CredentialsRefused:
    """The same verdict, but an answer that refuses the request does not end the wait."""
    if isinstance(verdict, CredentialsRefused):
        refusal = verdict.verdict
        return replace(verdict, verdict=Unreachable(refusal.reason, refusal.message))
    if isinstance(verdict, Failure) and verdict.silenceable:
        return Unreachable(verdict.reason, verdict.message)
    return verdict


def with_retry_after(verdict: _V, retry_after: float | None) -> _V:
    """Adds the pause that an answer asks for to what was made of it, if that leads to another poke.

    `http_verdict` leaves it out where it decides "not yet": these verdicts are shared.
    """
    if retry_after is None or not isinstance(verdict, Pending | Unreachable):
        return verdict
    return replace(verdict, retry_after=retry_after)


def status_phrase(status: int) -> str:
    """`HTTP 404 Not Found`, or only `HTTP 499` where the status has no standard phrase."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _decided(status: int, evaluation: Evaluation) -> Verdict:
    message = status_phrase(status) if evaluation.message is None else evaluation.message
    if evaluation.decision is Decision.SUCCESS:
        reason = RESULT_OMITTED if evaluation.payload_omitted else "success"
        return Success(evaluation.payload, reason, message)
    reason = RESULT_OMITTED if evaluation.payload_omitted else "failure"
    return Failure(reason, message, evaluation.payload)


# Verdicts are immutable and few: waits with equal responses share one object.


@lru_cache(maxsize=2048)
def _pending(status: int, message: str | None, note: str) -> Pending:
    if message is None:
        message = f"{status_phrase(status)}; {note}" if note else status_phrase(status)
    return Pending(f"http_{status}", message[:MESSAGE_LIMIT])


@lru_cache(maxsize=1024)
def _retryable(status: int, retry_after: float | None) -> Unreachable:
    return Unreachable(f"http_{status}", status_phrase(status), retry_after)


def _client_error(
    status: int, retry_after: float | None, message: str | None
) -> Verdict | CredentialsRefused:
    if status != 401 and retry_after is not None:  # it asks for another request, such as a rate limit
        return _retryable(status, retry_after)
    return _unauthorized(status, message) if status in {401, 403} else _refused(status, message)


@lru_cache(maxsize=1024)
def _refused(status: int, message: str | None) -> Failure:
    return Failure(f"http_{status}", status_phrase(status) if message is None else message, silenceable=True)


@lru_cache(maxsize=1024)
def _unauthorized(status: int, message: str | None) -> CredentialsRefused:
    return CredentialsRefused(_refused(status, message), repeat_unchanged=status == 401)


@lru_cache(maxsize=1024)
def _redirected(origin: str) -> CredentialsRefused:
    message = f"The target redirects to another origin, {origin}; credentials are not sent there."
    return CredentialsRefused(Failure("redirected_elsewhere", message[:MESSAGE_LIMIT], silenceable=True))


REDIRECT_LOOP = Unreachable("redirect_loop", "The target redirects in a loop, or too often.")
