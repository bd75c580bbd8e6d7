"""`submit` of a wait of kind `http`: its parameters, and the request that they come to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.headers import header_problems
from waitd.models import Strict, parsed
from waitd.probes.http.params import MAX_ENDPOINT, MAX_REQUEST_TIMEOUT, HttpTarget
from waitd.probes.submit.placeholders import KEY, location_part, placeholder_names
from waitd.probes.submit.plan import (
    GONE,
    REQUEST_TIMEOUT,
    AdoptRequest,
    CancelRequest,
    SubmitParams,
    SubmitRequest,
    check_call,
    check_expression,
    common_fields,
    with_sample_values,
)

Status = Annotated[int, Field(ge=100, le=599)]
#: Raises InvalidInput where parameters of kind `http` are wrong.
CheckCall = Callable[[Mapping[str, Any]], HttpTarget]


class HttpCall(Strict):
    """A request; what it leaves out of the connection is the wait's."""

    endpoint: Annotated[str, StringConstraints(max_length=MAX_ENDPOINT)] = Field(
        default="", description="A path below the connection's base URL, or an absolute URL."
    )
    http_conn_id: str | None = Field(default=None, description="The connection; default: the wait's.")
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers; no secrets.")
    request_params: dict[str, Any] = Field(default_factory=dict, description="The query.")
    data: str | None = Field(default=None, description="The request body, as text.")
    json_body: Any = Field(default=None, alias="json", description="The request body, as JSON.")
    request_timeout: float = Field(
        default=REQUEST_TIMEOUT, gt=0, le=MAX_REQUEST_TIMEOUT, description="Seconds the call may take."
    )


class HttpAdopt(HttpCall):
    """The request that finds the job which is in the way."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The request's method.")
    handle: str = Field(description="CEL over its answer: what names the running job; null: none runs.")


class HttpCancel(HttpCall):
    """The request that cancels the job."""

    method: Literal["DELETE", "POST", "PUT", "PATCH"] = Field(
        default="POST", description="The request's method."
    )
    gone_statuses: list[Status] = Field(
        default=sorted(GONE), description="Statuses that say that there is nothing to cancel any more."
    )


class HttpSubmit(SubmitParams, HttpCall):
    """What `submit` of a wait of kind `http` may hold."""

    method: Literal["POST", "PUT"] = Field(default="POST", description="The request's method.")
    handle: str = Field(
        description="CEL over status, headers, body, text and key: what names the job, a string, a number or a map of them."
    )
    message: str | None = Field(default=None, description="CEL; a string for people, where it is refused.")
    idempotent: bool = Field(
        default=True, description="False: a repeated call may make a second job, so it is never repeated."
    )
    idempotency_header: str = Field(
        default="Idempotency-Key",
        description="Where the key goes, if {idempotency_key} stands nowhere in the request.",
    )
    conflict_statuses: list[Status] = Field(
        default=[409], description="Statuses that say that a job is running already."
    )
    adopt: HttpAdopt | None = Field(default=None, description="With on_conflict adopt: how to find that job.")
    cancel: HttpCancel | None = Field(default=None, description="With cancel_job_on: how to cancel the job.")


#: The fields of a call that are parameters of kind `http`.
_OF_HTTP = (
    "endpoint",
    "http_conn_id",
    "method",
    "headers",
    "request_params",
    "data",
    "json",
    "request_timeout",
)


def submit_request(
    submit: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    namespace: str,
    check: CheckCall,
    secret_headers: Sequence[str],
) -> SubmitRequest:
    """The request that `submit` and the wait's `params` come to; `check` parses parameters of kind `http`.

    Raises:
        InvalidInput: with pointers relative to the wait.
    """
    try:
        given = parsed(HttpSubmit, dict(submit))
    except InvalidInput as error:
        raise error.below("/submit") from None
    conn_id = params.get("http_conn_id")
    calls = {"/submit": _params(submit, conn_id, "POST")}
    for name, method in (("adopt", "GET"), ("cancel", "POST")):
        if submit.get(name) is not None:
            calls[f"/submit/{name}"] = _params(submit[name], calls["/submit"].get("http_conn_id"), method)
    problems = [*_own_problems(given, secret_headers)]
    for place, call in calls.items():
        problems += check_call(place, call, check, handle=place == "/submit/cancel")
    if not problems:
        problems += _poke_problems(params, calls["/submit"], check)
    if problems:
        raise InvalidInput(problems)
    return SubmitRequest(
        params=calls["/submit"],
        handle=given.handle,
        message=given.message,
        idempotent=given.idempotent,
        idempotency_header=given.idempotency_header,
        conflict_statuses=frozenset(given.conflict_statuses),
        adopt=AdoptRequest(given.adopt.handle, calls["/submit/adopt"]) if given.adopt else None,
        cancel=CancelRequest(calls["/submit/cancel"], frozenset(given.cancel.gone_statuses))
        if given.cancel
        else None,
        location=location_part(params),
        namespace=namespace,
        **common_fields(given),
    )


def _params(call: Mapping[str, Any], conn_id: Any, method: str) -> dict[str, Any]:
    """A call as parameters of kind `http`."""
    own = {name: call[name] for name in _OF_HTTP if call.get(name) is not None}
    named = {} if conn_id is None else {"http_conn_id": conn_id}
    return {"method": method, "request_timeout": REQUEST_TIMEOUT, **named, **own}


def _own_problems(given: HttpSubmit, secret_headers: Sequence[str]) -> Iterator[Problem]:
    yield from check_expression("/submit/handle", given.handle)
    yield from check_expression("/submit/message", given.message)
    if given.adopt is not None:
        yield from check_expression("/submit/adopt/handle", given.adopt.handle)
    elif given.on_conflict == "adopt":
        yield Problem("/submit/adopt", "needed to find the job that on_conflict adopt waits for")
    if given.cancel_job_on and given.cancel is None:
        yield Problem("/submit/cancel", "needed to cancel the job on cancel_job_on")
    if not given.idempotent and given.method == "PUT":
        yield Problem("/submit/method", "PUT is idempotent by definition; with idempotent false it is POST")
    for problem in header_problems({given.idempotency_header: ""}, secret_headers):
        yield Problem("/submit/idempotency_header", problem.detail)


def _poke_problems(
    params: Mapping[str, Any], submitting: Mapping[str, Any], check: CheckCall
) -> Iterator[Problem]:
    """What is wrong with the wait's own parameters, filled as they might be."""
    origin = check(with_sample_values(submitting)).origin
    location = "/1" if params.get("http_conn_id") is not None else f"{origin}/1"
    yield from check_call(
        "/params", params, lambda _: check(with_sample_values(params, location)), handle=True
    )


def key_is_placed(params: Mapping[str, Any]) -> bool:
    """Whether a submitting call names the idempotency key itself."""
    return KEY in placeholder_names(params)
