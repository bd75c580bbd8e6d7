"""`submit` of the kind `http`: its parameters, and their `SubmitRequest`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.headers import header_problems
from waitd.models import RequestTimeout, Strict, parse_model
from waitd.probes.http.params import MAX_ENDPOINT, HttpTarget
from waitd.probes.submit.placeholders import location_part
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
#: Parses parameters of the kind `http`. Raises InvalidInput.
CheckCall = Callable[[Mapping[str, Any]], HttpTarget]


class HttpCall(Strict):
    """A request. Unless it names a connection, it uses the wait's."""

    endpoint: Annotated[str, StringConstraints(max_length=MAX_ENDPOINT)] = Field(
        default="", description="A path below the connection's base URL, or an absolute URL."
    )
    http_conn_id: str | None = Field(default=None, description="The connection; default: the wait's.")
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers; no secrets.")
    request_params: dict[str, Any] = Field(default_factory=dict, description="The query.")
    data: str | None = Field(default=None, description="The request body, as text.")
    json_body: Any = Field(default=None, alias="json", description="The request body, as JSON.")
    request_timeout: RequestTimeout = Field(default=REQUEST_TIMEOUT, description="Seconds the call may take.")


class HttpAdopt(HttpCall):
    """The request that finds the job in conflict."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The request's method.")
    handle: str = Field(
        description="CEL over the answer: the handle of the running job; null: no job is running."
    )


class HttpCancel(HttpCall):
    """The request that cancels the job."""

    method: Literal["DELETE", "POST", "PUT", "PATCH"] = Field(
        default="POST", description="The request's method."
    )
    gone_statuses: list[Status] = Field(
        default=sorted(GONE), description="Statuses that mean that the job no longer exists."
    )


class HttpSubmit(SubmitParams, HttpCall):
    """`submit` of a wait of the kind `http`."""

    method: Literal["POST", "PUT"] = Field(default="POST", description="The request's method.")
    handle: str = Field(
        description="CEL over status, headers, body, text and key: the job's handle, a string, a number or a map of these."
    )
    message: str | None = Field(
        default=None, description="CEL; a message for people when the job is refused."
    )
    idempotent: bool = Field(
        default=True, description="False: a repeated call may create a second job, so it is never repeated."
    )
    idempotency_header: str = Field(
        default="Idempotency-Key",
        description="The header for the key, unless the request contains {idempotency_key}.",
    )
    conflict_statuses: list[Status] = Field(
        default=[409], description="Statuses that mean that a job is running already."
    )
    adopt: HttpAdopt | None = Field(default=None, description="With on_conflict adopt: how to find that job.")
    cancel: HttpCancel | None = Field(default=None, description="With cancel_job_on: how to cancel the job.")


#: The fields of a call that are parameters of the kind `http`.
_HTTP_FIELDS = ("method", *(field.alias or name for name, field in HttpCall.model_fields.items()))


def submit_request(
    submit: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    namespace: str,
    check: CheckCall,
    secret_headers: Sequence[str],
) -> SubmitRequest:
    """Parses `submit` with the wait's `params`; `check` parses those of the kind `http`.

    Raises:
        InvalidInput: with pointers relative to the wait.
    """
    try:
        submit_params = parse_model(HttpSubmit, dict(submit))
    except InvalidInput as error:
        raise error.below("/submit") from None
    conn_id = params.get("http_conn_id")
    calls = {"/submit": _params(submit, conn_id, "POST")}
    for name, method in (("adopt", "GET"), ("cancel", "POST")):
        if submit.get(name) is not None:
            calls[f"/submit/{name}"] = _params(submit[name], calls["/submit"].get("http_conn_id"), method)
    problems = [*_own_problems(submit_params, secret_headers)]
    for pointer, call in calls.items():
        problems += check_call(pointer, call, check, handle=pointer == "/submit/cancel")
    if not problems:
        problems += _poke_problems(params, calls["/submit"], check)
    if problems:
        raise InvalidInput(problems)
    return SubmitRequest(
        params=calls["/submit"],
        handle=submit_params.handle,
        message=submit_params.message,
        idempotent=submit_params.idempotent,
        idempotency_header=submit_params.idempotency_header,
        conflict_statuses=frozenset(submit_params.conflict_statuses),
        adopt=AdoptRequest(submit_params.adopt.handle, calls["/submit/adopt"])
        if submit_params.adopt
        else None,
        cancel=CancelRequest(calls["/submit/cancel"], frozenset(submit_params.cancel.gone_statuses))
        if submit_params.cancel
        else None,
        location=location_part(params),
        namespace=namespace,
        **common_fields(submit_params),
    )


def _params(call: Mapping[str, Any], conn_id: Any, method: str) -> dict[str, Any]:
    """Returns a call as parameters of the kind `http`."""
    fields = {name: call[name] for name in _HTTP_FIELDS if call.get(name) is not None}
    return {"method": method, "request_timeout": REQUEST_TIMEOUT, "http_conn_id": conn_id, **fields}


def _own_problems(submit: HttpSubmit, secret_headers: Sequence[str]) -> Iterator[Problem]:
    yield from check_expression("/submit/handle", submit.handle)
    yield from check_expression("/submit/message", submit.message)
    if submit.adopt is not None:
        yield from check_expression("/submit/adopt/handle", submit.adopt.handle)
    elif submit.on_conflict == "adopt":
        yield Problem("/submit/adopt", "on_conflict adopt needs it to find the running job")
    if submit.cancel_job_on and submit.cancel is None:
        yield Problem("/submit/cancel", "cancel_job_on needs it to cancel the job")
    if not submit.idempotent and submit.method == "PUT":
        yield Problem("/submit/method", "PUT is idempotent by definition; use POST with idempotent false")
    for problem in header_problems({submit.idempotency_header: ""}, secret_headers):
        yield Problem("/submit/idempotency_header", problem.detail)


def _poke_problems(params: Mapping[str, Any], call: Mapping[str, Any], check: CheckCall) -> Iterator[Problem]:
    """Yields what is wrong with the wait's `params`, with sample values for placeholders."""
    origin = check(with_sample_values(call)).origin
    location = "/1" if params.get("http_conn_id") else f"{origin}/1"
    yield from check_call(
        "/params", params, lambda _: check(with_sample_values(params, location)), handle=True
    )
