"""A wait's `submit` as data: requests that submit, find and cancel a job, and its handle.

A kind that can submit jobs has a method `parse_submit`, which checks a wait's `submit` together
with its `params` and returns a `SubmitRequest`. What sends the requests (`waitd.probes.http.jobs`)
and what decides about them (`waitd.core.waits.submission`) know nothing else of the kind. So a kind
compiles its parameters to those of kind `http`, with these **placeholders** in `endpoint`,
`request_params` and `json`:

    {idempotency_key}  the key of this wait: its id, unless it sets one. It may stand in every
                       request and in the wait's own `params`. If the submitting request does not
                       name it, it is sent in the header `idempotency_header`.
    {handle}           the job's handle, if it is one value; {handle.NAME}: a value of a handle that
                       is a map. Both may stand in the cancel request and in the wait's own
                       `params`.

A string that is only a placeholder becomes the value itself, so a number stays a number; within a
longer string it becomes text. In `endpoint` it is percent-encoded as one path segment. An endpoint
that is only a handle is a URL (as in `headers.location`), which must have the origin of the
submitting request.

The **handle** is CEL over `status`, `headers`, `body`, `text` and `key` (the idempotency key): a
string, a whole number, or a map of strings, numbers and booleans. `handle_into` says how it gets
into the wait's `params`: `placeholders` fills them in; `params` merges a map over them, as a preset
does whose handle is `{'job_id': body.jobId}`.

A kind derives the model of its `submit` from `SubmitParams` and passes its common fields on by
`common_fields`. `check_call` checks a request as the kind `http` checks its own parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from waitd.core.errors import InvalidInput, Problem
from waitd.core.waits.submission import JobHandle, SubmitRules
from waitd.core.waits.wait import WaitId
from waitd.models import Key, Strict
from waitd.probes.cel.expressions import CelEnvironment, Type
from waitd.probes.submit.placeholders import fill, misplaced_placeholders, placeholder_names

#: Statuses of a cancel request that mean that there is no job to cancel.
GONE = frozenset({404, 409, 410})
#: The default timeout of a request, in seconds.
REQUEST_TIMEOUT = 30.0
#: The variables of the expressions on responses to these requests.
HANDLE_ENV = CelEnvironment(
    {
        "status": Type.INT,
        "headers": Type.Map(Type.STRING, Type.STRING),
        "body": Type.DYN,
        "text": Type.STRING,
        "key": Type.STRING,
    }
)
OnConflict = Literal["wait", "adopt", "fail"]
CancelOn = Literal["cancelled", "timeout"]


class Resume(Strict):
    """The state that another daemon exported; `waitd import` sets it."""

    state: Literal["pending", "submitting", "submitted"]
    handle: str | int | dict[str, str | int | float | bool] | None = None
    attempts: int = Field(default=0, ge=0)


class SubmitParams(Strict):
    """The fields that every kind's `submit` has."""

    on_conflict: OnConflict = Field(
        default="fail",
        description="If a job is already running: wait until it ends, adopt that job, or fail.",
    )
    cancel_job_on: Annotated[list[CancelOn], Field(max_length=2)] = Field(
        default_factory=list, description="The outcomes after which the job is cancelled: cancelled, timeout."
    )
    idempotency_key: Key | None = Field(
        default=None, description="The idempotency key of the submitting request; default: the wait's id."
    )
    resume: Resume | None = Field(
        default=None, description="The state that another daemon exported; waitd import sets it."
    )


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancels the job.

    Attributes:
        params: those of kind `http`: endpoint, http_conn_id, method, headers, request_params, data,
            json, request_timeout.
        gone: the statuses, besides any 2xx, that mean that the job is cancelled or over.
    """

    params: Mapping[str, Any]
    gone: frozenset[int] = GONE


@dataclass(frozen=True, slots=True)
class AdoptRequest:
    """Finds the running job that is in conflict with ours.

    Attributes:
        handle: CEL like that of the submitting request; null or an error means that no job is
            running.
        params: a request of kind `http` on whose response `handle` is evaluated. None: it is
            evaluated on the conflict's own response, where the client chooses the job's id:
            `{'job_id': key}`.
        ours: whether that job was submitted by this wait itself, as its id is our key.
    """

    handle: str
    params: Mapping[str, Any] | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """The submitting request and what belongs to it; a `waitd.ports.SubmitPlan`.

    Attributes:
        params: those of kind `http`; `method` is POST or PUT.
        handle: CEL, see the module's docstring.
        message: CEL; the message of a response that refuses the job. Default: the status.
        idempotent: whether requests with equal keys create one job.
        idempotency_key: the key; None: the wait's id.
        idempotency_header: the header of the key, if no placeholder names it.
        on_conflict: `wait` until it is accepted, `adopt` the running job, or `fail`.
        conflict_statuses: the statuses that mean that a job is already running.
        adopt: required if `on_conflict` is `adopt`.
        cancel: required if `cancel_job_on` names an outcome.
        cancel_job_on: `cancelled`, `timeout`.
        handle_into: `placeholders` or `params`.
        location: the part of the handle that is a URL relative to the submitting request's: "" the
            handle itself, else a name in it; None: no part is.
        namespace: the wait's.
    """

    params: Mapping[str, Any]
    handle: str
    message: str | None = None
    idempotent: bool = True
    idempotency_key: str | None = None
    idempotency_header: str = "Idempotency-Key"
    on_conflict: OnConflict = "fail"
    conflict_statuses: frozenset[int] = frozenset({409})
    adopt: AdoptRequest | None = None
    cancel: CancelRequest | None = None
    cancel_job_on: tuple[str, ...] = ()
    handle_into: Literal["placeholders", "params"] = "placeholders"
    location: str | None = None
    namespace: str = "default"

    @property
    def conn_ids(self) -> frozenset[str]:
        """See `waitd.ports.SubmitPlan`."""
        others = (part.params for part in (self.adopt, self.cancel) if part is not None and part.params)
        conn_ids = (params.get("http_conn_id") for params in (self.params, *others))
        return frozenset(conn_id for conn_id in conn_ids if conn_id is not None)

    @property
    def rules(self) -> SubmitRules:
        """See `waitd.ports.SubmitPlan`."""
        return SubmitRules(self.idempotent, self.on_conflict)

    @property
    def request_timeout(self) -> float:
        """See `waitd.ports.SubmitPlan`. It includes the request that finds a job to adopt."""
        requests = [self.params, *([self.adopt.params] if self.adopt and self.adopt.params else [])]
        return sum(float(params.get("request_timeout", REQUEST_TIMEOUT)) for params in requests)

    def key_of(self, wait_id: WaitId) -> str:
        """Returns the idempotency key of a wait's requests."""
        return self.idempotency_key or wait_id

    def params_with(self, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        """See `waitd.ports.SubmitPlan`."""
        if self.handle_into == "placeholders":
            return fill(params, self.key_of(wait_id), handle)
        if not isinstance(handle, Mapping):
            raise ValueError("the handle must be a map of params")  # noqa: TRY004 - a value from a response
        return {**params, **handle}


def common_fields(submit: SubmitParams) -> dict[str, Any]:
    """Returns the fields of a `SubmitRequest` that every `submit` has."""
    return {
        "on_conflict": submit.on_conflict,
        "cancel_job_on": tuple(submit.cancel_job_on),
        "idempotency_key": submit.idempotency_key,
    }


def check_expression(pointer: str, source: str | None) -> Iterator[Problem]:
    """Yields what is wrong with an expression on a response; `pointer` is its JSON pointer."""
    detail = None if source is None else HANDLE_ENV.problem(source)
    if detail is not None:
        yield Problem(pointer, detail)


class _SampleHandle(dict[str, Any]):
    """A handle that has a value for every name, to check parameters with."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> str:
        return "1"


def check_call(
    pointer: str, params: Mapping[str, Any], check: Callable[[Mapping[str, Any]], object], *, handle: bool
) -> Iterator[Problem]:
    """Yields what is wrong with one of the requests.

    Args:
        pointer: the JSON pointer to its parameters.
        params: those of kind `http`, with placeholders.
        check: raises InvalidInput if they are not valid parameters of kind `http`.
        handle: whether the handle is known when it is sent.
    """
    if misplaced := [*misplaced_placeholders(params)]:
        yield from (Problem(pointer + problem.pointer, problem.detail) for problem in misplaced)
        return
    names = placeholder_names(params)
    if not handle and (early := sorted(name for name in names if name.startswith("handle"))):
        yield Problem(pointer, f"{{{early[0]}}} is known only after the job was submitted")
        return
    try:
        check(with_sample_values(params))
    except InvalidInput as error:
        yield from error.below(pointer).problems
    except ValueError as error:
        yield Problem(pointer, str(error))


def with_sample_values(params: Mapping[str, Any], location: str = "/1") -> Mapping[str, Any]:
    """Returns parameters with sample values; `location` replaces an endpoint that is a handle."""
    handle: JobHandle = "1" if "handle" in placeholder_names(params) else _SampleHandle()
    filled = fill(params, "00000000-0000-7000-8000-000000000000", handle)
    return {**filled, "endpoint": location} if filled.get("endpoint") == "1" else filled
