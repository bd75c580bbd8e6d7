"""Every error of the API: RFC 9457 `application/problem+json` with a stable `type`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from waitd.core.errors import (
    Conflict,
    DiskNearlyFull,
    Forbidden,
    InvalidInput,
    LimitReached,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
)
from waitd.core.local_trouble import local_trouble

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
#: A response that is a problem carries the name of its kind under this key.
PROBLEM = web.ResponseKey("PROBLEM", str)
#: How to authenticate (RFC 6750, section 3).
CHALLENGE = 'Bearer realm="waitd"'
#: How many errors of one input are listed: the answer must not be far larger than the input.
MAX_PROBLEMS = 32


class ProblemKind(NamedTuple):
    """One kind of problem. `retry_after`: after how many seconds the same call may succeed."""

    status: int
    title: str
    retry_after: int | None = None


#: The kinds by name, the last part of `type`: `/problems/<name>`. The names are stable: programs
#: branch on them.
PROBLEM_KINDS: Mapping[str, ProblemKind] = {
    "malformed-request": ProblemKind(400, "The request is not well-formed HTTP"),
    "unauthenticated": ProblemKind(401, "Authentication is required"),
    "role-needed": ProblemKind(403, "The caller's role does not allow this"),
    "forbidden-origin": ProblemKind(403, "Pages of other sites may not call this API"),
    "not-found": ProblemKind(404, "It does not exist, or no longer exists"),
    "no-such-route": ProblemKind(404, "There is nothing at this path"),
    "method-not-allowed": ProblemKind(405, "The method is not allowed for this path"),
    "request-timeout": ProblemKind(408, "The request did not arrive in time"),
    "conflict": ProblemKind(409, "Its state does not allow this"),
    "idempotency-key-reused": ProblemKind(409, "The idempotency key was used with another body"),
    "events-gone": ProblemKind(410, "The events cannot be followed from there"),
    "too-large": ProblemKind(413, "The body is too large"),
    "unsupported-media-type": ProblemKind(415, "The type of the body is not accepted here"),
    "expectation-failed": ProblemKind(417, "The expectation cannot be met"),
    "misdirected": ProblemKind(421, "The Host is not this daemon's"),
    "invalid-input": ProblemKind(422, "The input is not valid"),
    "too-many-requests": ProblemKind(429, "The caller has sent too many requests"),
    "too-many-failures": ProblemKind(429, "Authentication failed too often from this address"),
    "over-capacity": ProblemKind(429, "The daemon holds as many waits as its capacity allows", 5),
    "over-limit": ProblemKind(429, "The caller or its namespace has as much as a limit allows"),
    "too-many-long-polls": ProblemKind(429, "Too many long-polls are open", 1),
    "too-many-batches": ProblemKind(429, "Too many batches are in progress", 1),
    "too-many-lists": ProblemKind(429, "Too many lists are read at the same time", 1),
    "too-many-readers": ProblemKind(429, "Too many readers follow the events", 5),
    "headers-too-large": ProblemKind(431, "The request line or the headers are too long"),
    "internal-error": ProblemKind(500, "The daemon failed to handle the request"),
    "unavailable": ProblemKind(503, "The daemon cannot do this now", 1),
    "draining": ProblemKind(503, "The daemon is stopping", 5),
    "not-ready": ProblemKind(503, "The daemon is not ready"),
    "insufficient-storage": ProblemKind(507, "The disk of the database is nearly full", 30),
}


class ProblemError(Exception):
    """A problem that is raised to answer a request with it.

    Attributes:
        name: its kind, a key of `PROBLEM_KINDS`.
        status: the HTTP status.
        body: the problem in the form of `waitd.models.ProblemDetails`.
        headers: headers of the response, such as Retry-After and Allow.
    """

    def __init__(self, name: str, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.name = name
        self.status = status
        self.body = body
        self.headers = headers
        super().__init__(body["detail"])


def refusal(
    name: str, detail: str, problems: Sequence[Problem] = (), headers: Mapping[str, str] | None = None
) -> ProblemError:
    """Returns a problem of the kind `name`, a key of `PROBLEM_KINDS`.

    `detail` is a sentence about this case.
    """
    kind = PROBLEM_KINDS[name]
    all_headers = dict(headers or {})
    if kind.retry_after is not None:
        all_headers["Retry-After"] = str(kind.retry_after)
    body = {
        "type": f"/problems/{name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "errors": [{"pointer": p.pointer, "detail": p.detail} for p in problems[:MAX_PROBLEMS]],
    }
    return ProblemError(name, kind.status, body, all_headers)


def limit_problem(name: str, limit: str, detail: str, retry_after: float) -> ProblemError:
    """Returns the problem that a limit is reached, with the limit's name as a member."""
    refused = refusal(name, detail, headers={"Retry-After": str(math.ceil(retry_after))})
    return ProblemError(name, refused.status, {**refused.body, "limit": limit}, refused.headers)


def classify_error(error: Exception) -> ProblemError:  # noqa: C901, PLR0911, PLR0912 - a return for each error
    """Returns the problem that an exception means to the caller.

    An unexpected exception is logged here, and the caller does not get its text.
    """
    match error:
        case ProblemError():
            return error
        case InvalidInput():
            return refusal("invalid-input", _summary(error.problems), error.problems)
        case Unauthenticated():
            return refusal("unauthenticated", str(error), headers={hdrs.WWW_AUTHENTICATE: CHALLENGE})
        case Forbidden():
            return refusal("role-needed", str(error))
        case NotFound():
            return refusal("not-found", str(error) or PROBLEM_KINDS["not-found"].title)
        case LimitReached():
            return limit_problem("over-limit", error.limit, f"{error}; nothing was stored", error.retry_after)
        case Conflict():
            return refusal("conflict", str(error) or PROBLEM_KINDS["conflict"].title)
        case DiskNearlyFull():
            return refusal("insufficient-storage", f"{error}; nothing was stored")
        case Unavailable():
            log.warning("request_refused", error=str(error), reason=type(error).__name__)
            return refusal(
                "unavailable", f"{error}; nothing was stored" if str(error) else "nothing was stored"
            )
        case web.HTTPException():
            return _from_http_exception(error)
        case web.RequestPayloadError():
            return refusal("malformed-request", "the body did not arrive whole, or its encoding is broken")
        case HttpProcessingError():
            return _from_malformed_http(error)
        case _ if trouble := local_trouble(error):
            return refusal("unavailable", f"the daemon cannot do this now: {trouble}")
        case _:
            return _internal_error(error)


def _from_malformed_http(error: HttpProcessingError) -> ProblemError:
    """Does not use the error's message: it quotes what was sent, which may be a secret."""
    if isinstance(error, LineTooLong):
        return refusal("headers-too-large", "the request line or a header is too long")
    if error.message == "Too many headers received":
        return refusal("headers-too-large", "there are too many headers")
    return refusal("malformed-request", "the request line, a header or a chunk is malformed")


def _internal_error(error: Exception) -> ProblemError:
    log.error("request_failed", exc_info=error)
    return refusal("internal-error", "the daemon's log has the details")


def _from_http_exception(error: web.HTTPException) -> ProblemError:
    match error:
        case web.HTTPNotFound():
            return refusal("no-such-route", "see /docs for the paths; they begin with /v1")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return refusal(
                "method-not-allowed", f"the allowed methods are: {allowed}", headers={"Allow": allowed}
            )
        case web.HTTPExpectationFailed():
            return refusal("expectation-failed", "only Expect: 100-continue is supported")
        case web.HTTPRequestEntityTooLarge():
            return refusal("too-large", "the body is over the limit")
        case _ if error.status < 500:
            refused = refusal("malformed-request", error.reason)
            return ProblemError(
                refused.name, error.status, {**refused.body, "status": error.status}, refused.headers
            )
        case _:
            return _internal_error(error)


def _summary(problems: Sequence[Problem]) -> str:
    first = f"{problems[0].pointer}: {problems[0].detail}" if problems[0].pointer else problems[0].detail
    return first if len(problems) == 1 else f"{first} (and {len(problems) - 1} more)"


def problem_response(refused: ProblemError) -> web.Response:
    """Returns the problem as an HTTP response."""
    headers = {**refused.headers, "Content-Type": CONTENT_TYPE}
    response = web.Response(status=refused.status, body=orjson.dumps(refused.body), headers=headers)
    response[PROBLEM] = refused.name
    if refused.status == 408:
        response.force_close()
    return response
