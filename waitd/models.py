"""The public models: what is sent to waitd and what it answers. Shared by the API, the CLI, the lab and the Airflow provider.

Types are strict (`true` is no number, "5" is none either) and unknown fields are refused by name. Parameters of a kind live with its
probe in `waitd.probes`, those of a sink with the sink in `waitd.sinks`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

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

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
LabelValue = Annotated[str, StringConstraints(max_length=256)]
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
    return str(item["msg"])


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to the field at `path`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path if part != "[key]")
