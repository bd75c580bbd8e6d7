"""Problems, costs, API keys, the audit and health: what the API takes and returns besides waits."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from waitd.core.auth.api_key import MAX_EXPIRES_IN
from waitd.core.auth.principal import DEFAULT_NAMESPACE
from waitd.models.fields import Action, RoleName, Time
from waitd.models.parsing import Strict


class FieldProblem(BaseModel):
    """One error in an input; `pointer` is a JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


class ProblemDetails(BaseModel):
    """A problem of RFC 9457. `type` is stable: programs branch on it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list)
    limit: str | None = Field(
        None, description="The limit that was reached, of those that `/v1/limits` shows."
    )


class LimitUse(BaseModel):
    """How much of a limit is used. `used` None: not counted; `most` None: no limit."""

    used: int | None
    most: float | None


class LimitView(BaseModel):
    """One limit. The setting is `limits.<limit>_per_namespace` or `…_per_principal`."""

    limit: str
    namespace: LimitUse
    principal: LimitUse


class LimitList(BaseModel):
    """The limits of the caller and of its namespace."""

    namespace: str
    principal: str
    limits: list[LimitView]


class ModeCost(BaseModel):
    """The resources that one mode of waiting occupies, and their cost at the configured prices."""

    slot_seconds: float = Field(description="For how long a worker slot is held.")
    cpu_seconds: float
    memory_byte_seconds: float
    cost: float
    currency: str


class WaitCost(BaseModel):
    """The cost of waiting in waitd and in Airflow's modes.

    `waitd` is measured; the other modes are modeled from the same duration and number of pokes.
    """

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
    """The cost of one kind, day or label value; "" stands for waits without the label."""

    name: str


class CostSummary(BaseModel):
    """The answer of `GET /v1/cost`."""

    since: str = Field(description="The first day that is counted, UTC.")
    by: str
    currency: str
    rows: list[CostRow] = Field(description="Days: newest first; others: longest total wait first.")
    more: bool = Field(description="Whether there are more rows than these; `total` includes all.")
    next_page_token: str | None = Field(description="Leads to the rows after these; null if there are none.")
    total: CostTotal
    overhead: ModeCost = Field(description="What the daemon used apart from any wait.")


class KeyRequest(Strict):
    """The body of `POST /v1/keys`."""

    role: RoleName
    namespace: Annotated[str, StringConstraints(max_length=63)] = Field(
        default=DEFAULT_NAMESPACE,
        description="The namespace of what the key's holder submits; `*`: a viewer of all namespaces and of the metrics.",
    )
    expires_in: Annotated[float, Field(gt=0, le=MAX_EXPIRES_IN)] | None = Field(
        default=None, description="Seconds; default: it does not expire."
    )


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: str
    role: RoleName
    namespace: str
    state: Literal["active", "expired", "revoked"]
    created_at: Time
    created_by: str = Field(description="The principal that created it; `file`: it comes from the keys file.")
    expires_at: Time | None
    revoked_at: Time | None
    used_at: Time | None = Field(description="When it was last used; accurate to the hour after a restart.")


class CreatedKeyView(KeyView):
    """The answer of `POST /v1/keys`. `key` is never shown again."""

    key: str


class KeyList(BaseModel):
    """A page of `GET /v1/keys`, which ends by its size; `next_page_token` is null on the last."""

    keys: list[KeyView]
    next_page_token: str | None


class ExtraView(BaseModel):
    """What is done with one extra of a connection; its value is never shown."""

    name: str
    use: Literal["read", "header", "ignored"]
    why: str = Field(description="Why it is ignored.")


class TriedView(BaseModel):
    """The answer to one question that was asked through a connection."""

    status: int | None = Field(description="The HTTP status; null: there was none.")
    error: str | None = Field(description="Why there was no answer; null if there was one.")
    seconds: float


class ConnectionView(BaseModel):
    """What waitd makes of a connection, without its secrets."""

    conn_id: str
    resolver: str = Field(description="Which of the connection_resolvers has it.")
    fields: dict[str, str | int] = Field(description="What is set, under Airflow's names; secrets as `***`.")
    extras: list[ExtraView]
    url: str | None = Field(description="The base URL; null if it has none itself.")
    problem: str | None = Field(description="Why it cannot be used; null if it can, as far as known.")
    tried: TriedView | None = Field(description="With `try`: what its target answered.")


class AuditEntryView(BaseModel):
    """An entry of the audit."""

    at: Time
    principal: str
    role: RoleName
    namespace: str
    remote: str = Field(description="The peer address of the connection.")
    action: Action
    subject: str | None = Field(description="The id of the wait or key; null where there are several.")
    subjects: int = Field(description="How many waits, deliveries or keys.")
    result: Literal["done", "not_found", "conflict"]


class AuditList(BaseModel):
    """A page of `GET /v1/audit`; `next_page_token` is null on the last page."""

    changes: list[AuditEntryView]
    next_page_token: str | None


class LivenessView(BaseModel):
    """The answer of `GET /livez`."""

    status: Literal["alive"]
    loop_lag_seconds: float


class ReadinessView(BaseModel):
    """The answer of `GET /readyz`."""

    status: Literal["ready", "degraded"] = Field(
        description="degraded: the disk of the database is low, and submits are or will be refused."
    )
    warnings: list[str] = Field(description="What to mend although the daemon is ready.")
