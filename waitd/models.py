"""The public models: what is sent to waitd and what it answers. Shared by the API, the CLI, the lab and the Airflow provider.

Types are strict (`true` is no number, "5" is none either) and unknown fields are refused by name. Parameters of a kind live with its
probe in `waitd.probes`, those of a sink with the sink in `waitd.sinks`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from waitd.core.auth.principal import DEFAULT_NAMESPACE
from waitd.core.connections.connection import is_conn_id
from waitd.core.errors import InvalidInput, Problem

MAX_SINKS = 8
MAX_LABELS = 32
#: The largest body of one wait, in bytes.
MAX_BODY = 64 * 1024
#: How many deliveries one call sends anew.
MAX_REDELIVERED = 1000
#: The largest batch: lines, and bytes.
MAX_BATCH_LINES = 10_000
MAX_BATCH_BODY = 64 * 1024 * 1024
#: The largest payload of a signal, in bytes.
MAX_SIGNAL = 16 * 1024

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
#: The longest key of a caller's, in characters.
MAX_KEY_LENGTH = 256
Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_LENGTH)]
#: The longest name and value of a label, in characters.
MAX_LABEL_NAME = 63
MAX_LABEL_VALUE = 256
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL_NAME)]
LabelValue = Annotated[str, StringConstraints(max_length=MAX_LABEL_VALUE)]


def _conn_id(text: str) -> str:
    if not is_conn_id(text):
        raise PydanticCustomError("conn_id", r"up to 250 letters, digits and _#!()-.:/\ ")
    return text


#: The name of a connection, as a parameter.
ConnId = Annotated[str, AfterValidator(_conn_id)]
RoleName = Literal["viewer", "submitter", "operator", "admin"]
Action = Literal["submit", "cancel", "poke", "redeliver", "signal", "create_key", "revoke_key"]
ACTIONS: tuple[Action, ...] = (
    "submit",
    "cancel",
    "poke",
    "redeliver",
    "signal",
    "create_key",
    "revoke_key",
)
State = Literal["waiting", "success", "failed", "timeout", "cancelled"]
STATES: tuple[State, ...] = ("waiting", "success", "failed", "timeout", "cancelled")


class Strict(BaseModel):
    """The base of everything that comes in."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SinkRequest(BaseModel):
    """A destination of the outcome: `kind`, and that sink's own parameters beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: str


class WaitRequest(Strict):
    """The body of `POST /v1/waits`."""

    kind: str = Field(description="What to poke: http, …")
    params: dict[str, Any] = Field(default_factory=dict, description="That kind's own parameters.")
    poke_interval: Seconds = Field(default=60.0, description="Seconds between pokes.")
    timeout: Seconds | None = Field(default=None, description="Seconds from acceptance; default: a setting.")
    exponential_backoff: bool = False
    max_wait: Seconds | None = Field(
        default=None, description="The longest pause of the backoff, in seconds."
    )
    soft_fail: bool = False
    silent_fail: bool = False
    sinks: Annotated[list[SinkRequest], Field(max_length=MAX_SINKS)] = Field(default_factory=list)
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    supersede_key: Key | None = None
    submit: dict[str, Any] | None = Field(
        default=None,
        description="The job that is submitted before the first poke; that kind's own parameters.",
    )
    wake_on: Key | None = Field(
        default=None, description="A signal under this key makes it be poked at once."
    )


class BatchLine(WaitRequest):
    """One line of `POST /v1/waits:batch`."""

    idempotency_key: Key | None = None


class RedeliverIds(Strict):
    """A body of `POST /v1/deliveries:redeliver`: these deliveries, all or none."""

    ids: Annotated[list[Uuid], Field(min_length=1, max_length=MAX_REDELIVERED)]


class RedeliverDead(Strict):
    """A body of `POST /v1/deliveries:redeliver`: dead deliveries that match, the oldest first, each once."""

    state: Literal["dead"]
    sink: str | None = Field(default=None, description="Only those to sinks of this kind.")
    wait_id: Uuid | None = Field(default=None, description="Only those of this wait.")
    limit: int = Field(default=MAX_REDELIVERED, ge=1, le=MAX_REDELIVERED)


class SignalPayload(RootModel[Any]):
    """The body of `POST /v1/signals/{key}`: any JSON."""


class SignalView(BaseModel):
    """The answer of `POST /v1/signals/{key}`."""

    key: str
    namespace: str
    waits: int = Field(description="How many waits listen to it now.")


class S3Event(RootModel[dict[str, Any]]):
    """The body of `POST /v1/signals:s3`: an event notification as S3, MinIO or EventBridge post it."""


class S3EventView(BaseModel):
    """The answer of `POST /v1/signals:s3`."""

    keys: int = Field(description="How many keys it tells to have come.")
    waits: int = Field(description="How many waits are poked for them.")


class Seen(BaseModel):
    """The last verdict of a wait."""

    verdict: Literal["pending", "success", "failure", "unreachable"]
    reason: str
    message: str
    at: Time


class RunView(BaseModel):
    """Equal verdicts in a row: what was seen, from when to when, how often."""

    verdict: Literal["pending", "success", "failure", "unreachable"]
    reason: str
    message: str
    first_at: Time
    last_at: Time
    count: int


class OutcomeView(BaseModel):
    """How a wait ended."""

    state: State
    payload: Any = None
    message: str
    reason: str


class DeliveryView(BaseModel):
    """One row of the outbox."""

    id: str
    sink: str
    state: Literal["queued", "delivered", "dead"]
    attempts: int
    next_attempt_at: Time | None
    last_error: str | None
    signed: bool | None = Field(description="Whether it is signed; null where the sink knows no signatures.")


class DeliveryItem(DeliveryView):
    """One row of the outbox in a list, with the wait that it belongs to."""

    wait_id: str
    namespace: str
    created_at: Time


class DeliveryList(BaseModel):
    """A page of `GET /v1/deliveries`; `next_page_token` is null on the last one."""

    deliveries: list[DeliveryItem]
    next_page_token: str | None


class RedeliveredView(BaseModel):
    """The answer of `POST /v1/deliveries:redeliver`."""

    redelivered: int = Field(description="How many new deliveries were queued.")
    more: bool = Field(description="Whether the limit left out others: call again.")


class WaitingOnView(BaseModel):
    """Where a waiting wait stands now, and who throttles it."""

    stage: Literal["scheduled", "queued", "poking", "ending"] = Field(
        description="queued: due, and waiting for a place; ending: the outcome is on its way to disk."
    )
    since: Time | None = Field(description="When it became due; null while it is scheduled.")
    held_up_by: Literal["origin_limit", "unproven_origins", "poke_concurrency"] | None = Field(
        description="What a queued one waits for; null: its turn is next."
    )
    origin: str = Field(description="Where it queues: scheme, host and port, else the connection.")
    origin_limit: int = Field(description="How many pokes at once the origin gets now.")
    origin_running: int = Field(description="How many it has.")
    origin_held_down: bool = Field(description="Whether that is because of three timeouts in a row.")
    quiet_until: Time | None = Field(description="Until when the last answer's Retry-After asked for quiet.")


class ModeCost(BaseModel):
    """What is occupied in one mode of waiting, and what that costs at the prices of the settings."""

    slot_seconds: float = Field(description="For how long a worker slot is held.")
    cpu_seconds: float
    memory_byte_seconds: float
    cost: float
    currency: str


class WaitCost(BaseModel):
    """The cost of waiting, here and in Airflow's ways. `waitd` is measured; the others are a model from the same duration and pokes."""

    poke: ModeCost
    reschedule: ModeCost
    defer: ModeCost
    waitd: ModeCost


class CostTotal(WaitCost):
    """The cost of waits that have ended."""

    waits: int
    wait_seconds: float
    pokes: int


class CostRow(CostTotal):
    """The same of one kind, day or label's value; of a label, "" are the waits without it."""

    name: str


class CostSummary(BaseModel):
    """The answer of `GET /v1/cost`."""

    since: str = Field(description="From which day on, UTC.")
    by: str
    currency: str
    rows: list[CostRow] = Field(
        description="Days with the newest first, others with the longest waits first."
    )
    more: bool = Field(description="Whether the limit left out others; the total has them.")
    total: CostTotal
    overhead: ModeCost = Field(description="What the daemon used that belongs to no wait.")


class JobCancelView(BaseModel):
    """How far the cancelling of a job has come, after its wait's end."""

    state: Literal["pending", "cancelled", "unneeded", "failed", "unknown"] = Field(
        description="unneeded: there was no job; unknown: there may be one that nobody can name."
    )
    attempts: int
    last_error: str | None
    next_attempt_at: Time | None


class SubmissionView(BaseModel):
    """The job that a wait submits itself."""

    state: Literal["pending", "submitting", "submitted", "failed", "unknown"] = Field(
        description="submitting: there may be a job already; unknown: nobody can say whether there is one."
    )
    handle: str | int | dict[str, Any] | None = Field(description="What names the job.")
    adopted: bool = Field(description="It was running already, and is waited for instead of one of our own.")
    attempts: int
    last_error: str | None
    cancel: JobCancelView | None = Field(description="null where the job is not to be cancelled.")
    request: dict[str, Any] = Field(description="As it was sent.")


class WaitView(BaseModel):
    """A wait as the API always shows it."""

    id: str
    namespace: str
    kind: str
    params: dict[str, Any]
    poke_interval: float
    timeout: float
    exponential_backoff: bool
    max_wait: float | None
    soft_fail: bool
    silent_fail: bool
    sinks: list[dict[str, Any]]
    labels: dict[str, str]
    supersede_key: str | None
    submit: SubmissionView | None = Field(description="null where it submits nothing.")
    wake_on: str | None
    state: State
    created_at: Time
    deadline: Time
    next_poke_at: Time | None
    waiting_on: WaitingOnView | None = Field(description="null once it has ended, and until it is in hand.")
    last_poke_at: Time | None
    finished_at: Time | None
    pokes: int
    last_verdict: Seen | None
    outcome: OutcomeView | None
    deliveries: list[DeliveryView] = Field(
        description="The newest of them; `GET /v1/deliveries?wait_id=` has all."
    )
    cost: WaitCost | None = Field(description="What it has cost so far; null where that is not measured.")


class WaitList(BaseModel):
    """A page of `GET /v1/waits`; `next_page_token` is null on the last one."""

    waits: list[WaitView]
    next_page_token: str | None


class PokeList(BaseModel):
    """The answer of `GET /v1/waits/{id}/pokes`."""

    pokes: int
    runs: list[RunView]


class FieldProblem(BaseModel):
    """One thing wrong with an input; `pointer` is a JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457. `type` is stable: programs branch on it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list)


class BatchAnswer(BaseModel):
    """One line of the answer of `POST /v1/waits:batch`: with 201 and 200 the wait's id, else the problem."""

    status: Literal[200, 201, 409, 413, 422, 429]
    id: str | None = None
    problem: ProblemDetails | None = None


class TaskOutcome(BaseModel):
    """What waitd hands to a parked Airflow task: `params_input` of the answer that resumes it, or the value in its state store that it
    finds when it has been cleared. `ti_id` and `try_number` are those that the wait was registered with: no other try takes it for its own.
    """

    model_config = ConfigDict(frozen=True)
    event_id: str = Field(description="The event's id, which is the wait's.")
    ti_id: str
    try_number: int
    state: State
    payload: Any = None
    message: str
    reason: str
    soft_fail: bool


class Registration(Strict):
    """What an Airflow task leaves in Airflow while it is parked, so that its wait can be registered again after waitd lost its disk."""

    wait: dict[str, Any] = Field(description="The body of `POST /v1/waits`, as it was sent.")
    idempotency_key: Key
    deadline: Time


class KeyRequest(Strict):
    """The body of `POST /v1/keys`."""

    role: RoleName
    namespace: Annotated[str, StringConstraints(max_length=63)] = Field(
        default=DEFAULT_NAMESPACE,
        description="Where what comes with it belongs; `*`: a viewer of all namespaces, and of the daemon's figures.",
    )
    expires_in: Seconds | None = Field(default=None, description="Seconds; default: it does not expire.")


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: str
    role: RoleName
    namespace: str
    state: Literal["active", "expired", "revoked"]
    created_at: Time
    created_by: str = Field(description="The principal who made it; `file`: it stands in the keys file.")
    expires_at: Time | None
    revoked_at: Time | None
    used_at: Time | None = Field(
        description="When it was last used, to the hour where waitd was restarted since."
    )


class MadeKeyView(KeyView):
    """The answer of `POST /v1/keys`. `key` is shown this once."""

    key: str


class KeyList(BaseModel):
    """The answer of `GET /v1/keys`."""

    keys: list[KeyView]


class ChangeView(BaseModel):
    """A line of the audit."""

    at: Time
    principal: str
    role: RoleName
    namespace: str
    remote: str = Field(description="From where: the address of the other end of the connection.")
    action: Action
    subject: str | None = Field(description="The id of the wait or key; null where there are many.")
    subjects: int = Field(description="How many waits, deliveries or keys.")
    result: Literal["done", "not_found", "conflict"]


class ChangeList(BaseModel):
    """The answer of `GET /v1/audit`."""

    changes: list[ChangeView]
    next_page_token: str | None


class Alive(BaseModel):
    """The answer of `GET /livez`."""

    status: Literal["alive"]
    loop_lag_seconds: float


class Ready(BaseModel):
    """The answer of `GET /readyz`."""

    status: Literal["ready"]


Model = TypeVar("Model", bound=BaseModel)


def parsed(model: type[Model], data: Any) -> Model:
    """`data` (decoded JSON) as `model`.

    Raises:
        InvalidInput: a problem for each field, with its pointer and what to do.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(_problems(model, error)) from None


def _problems(model: type[BaseModel], error: ValidationError) -> Sequence[Problem]:
    return [Problem(pointer(item["loc"]), _detail(model, item)) for item in error.errors(include_url=False)]


def _detail(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        names = (field.alias or name for name, field in model.model_fields.items())
        known = ", ".join(sorted(names)) if len(item["loc"]) == 1 else ""
        return "unknown field" + (f"; known are: {known}" if known else "")
    return str(item["msg"]).removeprefix("Value error, ")


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to the field at `path`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path if part != "[key]")
