"""Every way the API says no: RFC 9457 `application/problem+json` with a stable `type`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from waitd.core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
    WaitdError,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Under this key an answer that is a refusal carries its kind.
PROBLEM = web.ResponseKey("PROBLEM", str)
#: How to say who one is (RFC 6750, section 3).
CHALLENGE = 'Bearer realm="waitd"'
#: How many problems of one input are listed; an input of many mistakes must not make a far larger answer.
MAX_PROBLEMS = 32


class ProblemKind(NamedTuple):
    """One kind of refusal. `retry_after`: seconds after which the same call is worth a try, where it is."""

    status: int
    title: str
    retry_after: int | None = None


#: By the last part of `type`, `/problems/<name>`. Part of the contract: programs branch on it.
PROBLEM_KINDS: Mapping[str, ProblemKind] = {
    "malformed-request": ProblemKind(400, "The request is not well-formed HTTP"),
    "unauthenticated": ProblemKind(401, "It is not known who calls"),
    "role-needed": ProblemKind(403, "Who calls may not do this"),
    "forbidden-origin": ProblemKind(403, "Pages of other sites may not call this API"),
    "not-found": ProblemKind(404, "It is not there, or not any more"),
    "no-such-route": ProblemKind(404, "There is nothing at this path"),
    "method-not-allowed": ProblemKind(405, "This path does not know the method"),
    "request-timeout": ProblemKind(408, "The request did not arrive in time"),
    "conflict": ProblemKind(409, "Its state forbids it"),
    "idempotency-key-reused": ProblemKind(409, "The idempotency key belongs to another body"),
    "events-gone": ProblemKind(410, "The events cannot be followed from there"),
    "too-large": ProblemKind(413, "The body is too large"),
    "unsupported-media-type": ProblemKind(415, "The body is of a type that is not taken here"),
    "expectation-failed": ProblemKind(417, "The expectation is not met here"),
    "misdirected": ProblemKind(421, "The Host is not this daemon's"),
    "invalid-input": ProblemKind(422, "The input is not valid"),
    "too-many-requests": ProblemKind(429, "The caller has sent more requests than it may"),
    "too-many-failures": ProblemKind(429, "Authentication failed too often from this address"),
    "over-capacity": ProblemKind(429, "The daemon holds as many waits as it may", 5),
    "too-many-long-polls": ProblemKind(429, "Too many callers wait for an answer", 1),
    "too-many-batches": ProblemKind(429, "Too many batches arrive at the same time", 1),
    "too-many-readers": ProblemKind(429, "Too many readers follow the events", 5),
    "headers-too-large": ProblemKind(431, "The request line or the headers are too long"),
    "internal-error": ProblemKind(500, "The daemon made a mistake"),
    "unavailable": ProblemKind(503, "Not now", 1),
    "draining": ProblemKind(503, "The daemon is stopping", 5),
    "not-ready": ProblemKind(503, "The daemon is not ready"),
}


class ProblemError(Exception):
    """A refusal on its way to the caller.

    Attributes:
        name: its kind, a key of `PROBLEM_KINDS`.
        status: the HTTP status.
        body: the problem details, as `waitd.models.ProblemDetails`.
        headers: what goes with it: Retry-After, Allow.
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
    """A refusal of the kind `name` (a key of `PROBLEM_KINDS`), with a sentence for this case."""
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


def classify_error(error: Exception) -> ProblemError:
    """What an exception means to a caller. One that nobody expected is logged here and told without its text."""
    match error:
        case ProblemError():
            return error
        case WaitdError():
            return _refusal_of_ours(error)
        case web.HTTPException():
            return _refusal_of_http(error)
        case web.RequestPayloadError():
            return refusal("malformed-request", "the body did not arrive whole, or its encoding is broken")
        case HttpProcessingError():
            return _refusal_of_broken(error)
        case _:
            return _mistake(error)


def _refusal_of_broken(error: HttpProcessingError) -> ProblemError:
    """Its message quotes what was sent, and that may be a secret."""
    if isinstance(error, LineTooLong):
        return refusal("headers-too-large", "the request line or a header is too long")
    if error.message == "Too many headers received":
        return refusal("headers-too-large", "there are too many headers")
    return refusal("malformed-request", "the request line, a header or a chunk is malformed")


def _mistake(error: Exception) -> ProblemError:
    log.error("request failed", exc_info=error)
    return refusal("internal-error", "the daemon's log says more")


def _refusal_of_ours(error: WaitdError) -> ProblemError:  # noqa: PLR0911 - an error each
    match error:
        case InvalidInput():
            return refusal("invalid-input", _summary(error.problems), error.problems)
        case Unauthenticated():
            return refusal("unauthenticated", str(error), headers={hdrs.WWW_AUTHENTICATE: CHALLENGE})
        case Forbidden():
            return refusal("role-needed", str(error))
        case NotFound():
            return refusal("not-found", str(error) or PROBLEM_KINDS["not-found"].title)
        case Conflict():
            return refusal("conflict", str(error) or PROBLEM_KINDS["conflict"].title)
        case Unavailable():
            log.warning("request refused", error=str(error), reason=type(error).__name__)
            return refusal(
                "unavailable", f"{error}; nothing was stored" if str(error) else "nothing was stored"
            )
        case _:
            return _mistake(error)


def _refusal_of_http(error: web.HTTPException) -> ProblemError:
    match error:
        case web.HTTPNotFound():
            return refusal("no-such-route", "the paths are in the documentation; they begin with /v1")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return refusal("method-not-allowed", f"allowed here: {allowed}", headers={"Allow": allowed})
        case web.HTTPExpectationFailed():
            return refusal("expectation-failed", "Expect: 100-continue is the only one")
        case web.HTTPRequestEntityTooLarge():
            return refusal("too-large", "the body is over the limit")
        case _ if error.status < 500:
            refused = refusal("malformed-request", error.reason)
            return ProblemError(
                refused.name, error.status, {**refused.body, "status": error.status}, refused.headers
            )
        case _:
            return _mistake(error)


def _summary(problems: Sequence[Problem]) -> str:
    first = f"{problems[0].pointer}: {problems[0].detail}" if problems[0].pointer else problems[0].detail
    return first if len(problems) == 1 else f"{first} (and {len(problems) - 1} more)"


def problem_response(refused: ProblemError) -> web.Response:
    """The refusal as an HTTP response."""
    headers = {**refused.headers, "Content-Type": CONTENT_TYPE}
    response = web.Response(status=refused.status, body=orjson.dumps(refused.body), headers=headers)
    response[PROBLEM] = refused.name
    if refused.status == 408:
        response.force_close()
    return response
