"""What a kind's `submit` comes to, as data: the calls that submit, find and cancel a job, and how its handle gets into the poke.

A probe that can submit has one method more, `parse_submit` (`waitd.ports.Submits`): it checks a wait's `submit` beside its `params` and
returns a `SubmitRequest`. Whoever makes the calls (`http_jobs`) and whoever decides about them (`waitd.core.waits.submission`) know nothing else
of the kind. So a kind compiles its own parameters to the parameters of kind `http`, and leaves these **placeholders** in them, in
`endpoint`, `request_params` and `json` only (`placeholders`):

    {idempotency_key}     the key of this wait (its id, unless it names one): in the submitting call, the look-up, the cancel request, and the
                          wait's own `params`. Where the submitting call has none, the key goes into the header `idempotency_header`.
    {handle}              what names the job, where the handle is one value;
    {handle.NAME}         one of its values, where it is a map. In the cancel request, and in the wait's own `params`.

A string that is nothing but a placeholder becomes the value itself (a number stays a number); inside of a longer string it becomes text.
In `endpoint` it is percent-encoded as one path segment; an endpoint that is nothing but a handle is a URL (`headers.location`), which must
be of the submitting call's origin.

The **handle** is CEL over `status`, `headers`, `body`, `text` and `key` (the idempotency key): a string, a whole number, or a map of
strings, numbers and booleans. `handle_into` says how it gets into the wait's params: `placeholders` fills them; `params` merges a map over
them, which is what a preset wants whose handle is `{'job_id': body.jobId}`.

A kind of its own derives the model of its `submit` from `SubmitParams`, so that what is common has the same names everywhere, and hands
the model's fields on (`common_fields`). `check_calls` checks the calls of a finished request as kind `http` checks its own parameters.
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

#: Statuses of a cancel request that say that there is nothing to cancel any more.
GONE = frozenset({404, 409, 410})
#: How long a call may take that does not say, seconds.
REQUEST_TIMEOUT = 30.0
#: What the expressions about an answer to these calls may name.
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
    """Where another daemon left off; `waitd import` sets it."""

    state: Literal["pending", "submitting", "submitted"]
    handle: str | int | dict[str, str | int | float | bool] | None = None
    attempts: int = Field(default=0, ge=0)


class SubmitParams(Strict):
    """What every kind's `submit` may hold."""

    on_conflict: OnConflict = Field(
        default="fail",
        description="Where a job is running already: wait until it is over, adopt that job, or fail.",
    )
    cancel_job_on: Annotated[list[CancelOn], Field(max_length=2)] = Field(
        default_factory=list, description="Ends after which the job is cancelled: cancelled, timeout."
    )
    idempotency_key: Key | None = Field(
        default=None, description="The key of the submitting call; default: the wait's id."
    )
    resume: Resume | None = Field(
        default=None, description="Where another daemon left off; waitd import sets it."
    )


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancels the job. `params` are those of kind `http` (endpoint, http_conn_id, method, headers, request_params, data, json,
    request_timeout); any 2xx and `gone` mean that it is done.
    """

    params: Mapping[str, Any]
    gone: frozenset[int] = GONE


@dataclass(frozen=True, slots=True)
class AdoptRequest:
    """Finds the job that is in the way of ours.

    Attributes:
        handle: CEL like the submitting call's; null, or no value, where no job is running (any more).
        params: a request of kind `http` whose answer `handle` is asked about; None: it is asked about the conflict's own answer, as where
            the client chooses the job's id and a conflict means that it is there already: `{'job_id': key}`.
        ours: the job that is found is one that this wait submitted itself (its id is our key), not somebody else's.
    """

    handle: str
    params: Mapping[str, Any] | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """The submitting call and all that belongs to it; a `waitd.ports.SubmitPlan`.

    Attributes:
        params: those of kind `http`; `method` is POST or PUT.
        handle: CEL, see the file's docstring.
        message: CEL; a string for people about an answer that refuses. Default: the status.
        idempotent: the other side makes one job of calls with equal keys.
        idempotency_key: its value; None: the wait's id.
        idempotency_header: where it goes, if no placeholder names it.
        on_conflict: `wait` until it is taken, `adopt` the job that runs, or `fail`.
        conflict_statuses: which statuses say that a job is running already.
        adopt: needed where `on_conflict` is `adopt`.
        cancel: needed where `cancel_job_on` names a state.
        cancel_job_on: `cancelled`, `timeout`.
        handle_into: `placeholders` or `params`.
        location: which part of the handle is a URL, to be resolved against the submitting call's: "" the handle itself, else a name; None:
            no part is.
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
        named = (call.get("http_conn_id") for call in (self.params, *others))
        return frozenset(conn_id for conn_id in named if conn_id is not None)

    @property
    def rules(self) -> SubmitRules:
        """See `waitd.ports.SubmitPlan`."""
        return SubmitRules(self.idempotent, self.on_conflict)

    @property
    def request_timeout(self) -> float:
        """See `waitd.ports.SubmitPlan`; a look-up counts, too."""
        calls = [self.params, *([self.adopt.params] if self.adopt and self.adopt.params else [])]
        return sum(float(params.get("request_timeout", REQUEST_TIMEOUT)) for params in calls)

    def key_of(self, wait_id: WaitId) -> str:
        """The idempotency key of its calls."""
        return self.idempotency_key or wait_id

    def params_with(self, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        """See `waitd.ports.SubmitPlan`."""
        if self.handle_into == "placeholders":
            return fill(params, self.key_of(wait_id), handle)
        if not isinstance(handle, Mapping):
            raise ValueError("the handle is no map of params")  # noqa: TRY004 - a value of the other side, not of ours
        return {**params, **handle}


def common_fields(given: SubmitParams) -> dict[str, Any]:
    """The fields of a `SubmitRequest` that come from what every `submit` may hold."""
    return {
        "on_conflict": given.on_conflict,
        "cancel_job_on": tuple(given.cancel_job_on),
        "idempotency_key": given.idempotency_key,
    }


def check_expression(place: str, source: str | None) -> Iterator[Problem]:
    """What is wrong with CEL about an answer; `place` is its JSON pointer."""
    if source is None:
        return
    try:
        HANDLE_ENV.compile(source)
    except ValueError as error:
        yield Problem(place, str(error))


class _SampleHandle(dict[str, Any]):
    """A handle that has every value, to check parameters by."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> str:
        return "1"


def check_call(
    place: str, params: Mapping[str, Any], check: Callable[[Mapping[str, Any]], object], *, handle: bool
) -> Iterator[Problem]:
    """What is wrong with one of the calls.

    Args:
        place: the JSON pointer to its parameters.
        params: those of kind `http`, with placeholders.
        check: raises InvalidInput where they are wrong as parameters of kind `http`.
        handle: whether there is a handle yet.
    """
    if wrong := [*misplaced_placeholders(params)]:
        yield from (Problem(place + problem.pointer, problem.detail) for problem in wrong)
        return
    names = placeholder_names(params)
    if not handle and (early := sorted(name for name in names if name.startswith("handle"))):
        yield Problem(place, f"{{{early[0]}}} is known only after the job was submitted")
        return
    try:
        check(with_sample_values(params))
    except InvalidInput as error:
        yield from error.below(place).problems
    except ValueError as error:
        yield Problem(place, str(error))


def with_sample_values(params: Mapping[str, Any], location: str = "/1") -> Mapping[str, Any]:
    """Parameters with placeholders filled as they might be. `location`: where an endpoint leads that is a handle."""
    whole = {name for name in placeholder_names(params) if name == "handle"}
    handle: JobHandle = "1" if whole else _SampleHandle()
    done = fill(params, "00000000-0000-7000-8000-000000000000", handle)
    return {**done, "endpoint": location} if done.get("endpoint") == "1" else done
