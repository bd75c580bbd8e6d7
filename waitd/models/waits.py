"""Views of waits, deliveries and signals; and the bodies of redelivery and signals."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from waitd.models.administration import ProblemDetails, WaitCost
from waitd.models.fields import MAX_REDELIVERED, State, Time, Uuid, VerdictName
from waitd.models.parsing import Strict


class LastVerdict(BaseModel):
    """The last verdict of a wait."""

    verdict: VerdictName
    reason: str
    message: str
    at: Time


class RunView(BaseModel):
    """A run of equal verdicts: what they were, from when to when, and how many."""

    verdict: VerdictName
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
    """The delivery of one outcome to one sink."""

    id: str
    sink: str
    state: Literal["queued", "delivered", "dead"]
    attempts: int
    next_attempt_at: Time | None
    last_error: str | None
    signed: bool | None = Field(
        description="Whether the delivery is signed; null where the sink does not sign."
    )


class DeliveryItem(DeliveryView):
    """A delivery in a list, with the wait that it belongs to."""

    wait_id: str
    namespace: str
    created_at: Time


class DeliveryList(BaseModel):
    """A page of `GET /v1/deliveries`; `next_page_token` is null on the last page."""

    deliveries: list[DeliveryItem]
    next_page_token: str | None


class RedeliverIds(Strict):
    """A body of `POST /v1/deliveries:redeliver`: these deliveries, all or none."""

    ids: Annotated[list[Uuid], Field(min_length=1, max_length=MAX_REDELIVERED)]


class RedeliverDead(Strict):
    """A body of `POST /v1/deliveries:redeliver`: the dead deliveries that match, oldest first."""

    state: Literal["dead"]
    sink: str | None = Field(default=None, description="Only deliveries to sinks of this kind.")
    wait_id: Uuid | None = Field(default=None, description="Only deliveries of this wait.")
    limit: int = Field(default=MAX_REDELIVERED, ge=1, le=MAX_REDELIVERED)


class RedeliveredView(BaseModel):
    """The answer of `POST /v1/deliveries:redeliver`."""

    redelivered: int = Field(description="How many new deliveries were queued.")
    more: bool = Field(description="Whether more deliveries match than the limit: call again.")


class SignalPayload(RootModel[Any]):
    """The body of `POST /v1/signals/{key}`: any JSON."""


class SignalView(BaseModel):
    """The answer of `POST /v1/signals/{key}`."""

    key: str
    namespace: str
    waits: int = Field(description="How many waits listen to this key now.")


class S3Event(RootModel[dict[str, Any]]):
    """The body of `POST /v1/signals:s3`: an event notification of S3, MinIO or EventBridge."""


class S3EventView(BaseModel):
    """The answer of `POST /v1/signals:s3`."""

    keys: int = Field(description="How many created keys the event names.")
    waits: int = Field(description="How many waits are poked for them.")


class WaitingOnView(BaseModel):
    """What a waiting wait waits for inside the daemon, and what throttles it."""

    stage: Literal["scheduled", "queued", "poking", "ending"] = Field(
        description="queued: due, and not started yet; ending: the outcome is being stored."
    )
    since: Time | None = Field(description="When the poke became due; null while it is scheduled.")
    held_up_by: Literal["origin_limit", "origin_pace", "unproven_origins", "poke_concurrency"] | None = Field(
        description="The limit that delays a queued poke; null: it is next."
    )
    origin: str = Field(description="The queue it is in: scheme, host and port, else the connection.")
    origin_limit: int = Field(description="How many concurrent pokes the origin gets now.")
    origin_running: int = Field(description="How many pokes of the origin are running.")
    origin_held_down: bool = Field(description="Whether three timeouts in a row lowered that limit.")
    quiet_until: Time | None = Field(
        description="The end of the pause that the last Retry-After header asked for."
    )


class JobCancelView(BaseModel):
    """The cancellation of a job after its wait ended."""

    state: Literal["pending", "cancelled", "unneeded", "failed", "unknown"] = Field(
        description="unneeded: there was no job; unknown: there may be a job whose handle was lost."
    )
    attempts: int
    last_error: str | None
    next_attempt_at: Time | None


class SubmissionView(BaseModel):
    """The job that a wait submits."""

    state: Literal["pending", "submitting", "submitted", "failed", "unknown"] = Field(
        description="submitting: a job may exist already; unknown: it cannot be determined whether one exists."
    )
    handle: str | int | dict[str, Any] | None = Field(description="What identifies the job.")
    adopted: bool = Field(description="Whether the job was running already and the wait adopted it.")
    attempts: int
    last_error: str | None
    cancel: JobCancelView | None = Field(description="null where the job is not to be cancelled.")
    request: dict[str, Any] = Field(description="The `submit` object of the request.")


class WaitView(BaseModel):
    """A wait as every answer shows it."""

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
    submit: SubmissionView | None = Field(description="null where the wait submits nothing.")
    wake_on: str | None
    state: State
    created_at: Time
    deadline: Time
    next_poke_at: Time | None
    waiting_on: WaitingOnView | None = Field(
        description="null once the wait has ended, and until the poker has loaded it."
    )
    last_poke_at: Time | None
    finished_at: Time | None
    pokes: int
    last_verdict: LastVerdict | None
    outcome: OutcomeView | None
    deliveries: list[DeliveryView] = Field(
        description="The newest of them; `GET /v1/deliveries?wait_id=` lists all."
    )
    cost: WaitCost | None = Field(description="What the wait has cost so far; null where cost is off.")


class UnreadableWaitView(BaseModel):
    """A wait whose stored row cannot be read: it is neither poked nor delivered.

    An operator mends or deletes the row.
    """

    id: str
    namespace: str | None = Field(description="null where it cannot be read either.")
    state: Literal["unreadable"]
    error: str = Field(description="Why the row cannot be read.")
    row: dict[str, Any] = Field(
        description='The columns as they are stored; a blob is `{"base64": …}`. Empty: the page is damaged.'
    )


class WaitList(BaseModel):
    """A page of `GET /v1/waits`; `next_page_token` is null on the last page.

    With `state=unreadable` it lists the waits that cannot be read, which are in no other list.
    """

    waits: list[WaitView | UnreadableWaitView]
    next_page_token: str | None


class PokeList(BaseModel):
    """The answer of `GET /v1/waits/{id}/pokes`."""

    pokes: int
    runs: list[RunView]


class BatchAnswer(BaseModel):
    """One line of the answer of `POST /v1/waits:batch`: the wait's id, or the problem."""

    status: Literal[200, 201, 409, 413, 422, 429]
    id: str | None = None
    problem: ProblemDetails | None = None
