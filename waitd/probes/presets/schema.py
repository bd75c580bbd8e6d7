"""The tables and keys of a preset's file, with their types. `FORMAT.md` explains them."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from waitd.core.connections.auth import AUTH_TYPES
from waitd.models import Strict

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
#: Contains a dot, so that no preset can have the name of a kind written in code, except for two
#: that resemble `s3_key`.
Kind = Annotated[
    str,
    StringConstraints(
        pattern=r"^(gcs_key|azure_blob|[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+)$", max_length=64
    ),
]
Text = Annotated[str, StringConstraints(min_length=1)]
Cel = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
StateName = str | int
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class ConnectionTable(Strict):
    """`[connection]`: the connection's parameter, and what completes the connection."""

    param: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*_conn_id$")]
    default: Text | None = None
    optional: bool = False
    auth: str | None = None
    auth_required: bool = False
    auth_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$")] | None = None
    extra: dict[str, str] = Field(default_factory=dict)
    base_url: Text | None = None
    scheme: Literal["http", "https"] | None = None
    api_path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9/._-]+[A-Za-z0-9]$")] | None = None
    aws_service: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")] | None = None
    aws_client: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")] | None = None

    @field_validator("auth")
    @classmethod
    def _is_auth_type(cls, value: str | None) -> str | None:
        if value is not None and value not in AUTH_TYPES:
            raise ValueError(f"must be one of {', '.join(AUTH_TYPES)}")
        return value

    @model_validator(mode="after")
    def _check(self) -> "ConnectionTable":
        if self.auth_required and self.auth is None and self.aws_service is None:
            raise ValueError("auth_required needs auth")
        return self


class PaceTable(Strict):
    """`[pace]`: in seconds."""

    poke_interval: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    min_poke_interval: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    not_found_grace: Seconds = 300.0

    @model_validator(mode="after")
    def _check(self) -> "PaceTable":
        if self.min_poke_interval > self.poke_interval:
            raise ValueError("min_poke_interval is larger than poke_interval")
        return self


class ParamTable(Strict):
    """`[params.NAME]`."""

    type: Literal["string", "integer", "boolean", "object", "array"]
    description: Text
    example: Any = None
    required: bool = False
    default: Any = None
    pattern: str | None = None
    relative: bool = False
    enum: list[StateName] | None = None
    minimum: int | None = None
    max_length: int | None = None

    @model_validator(mode="after")
    def _check(self) -> "ParamTable":
        if self.required and self.default is not None:
            raise ValueError("a required parameter cannot have a default")
        if self.required and self.example is None:
            raise ValueError("a required parameter needs an example")
        if (self.pattern is not None or self.relative) and self.type != "string":
            raise ValueError("pattern and relative need type string")
        return self


class CallTable(Strict):
    """The keys that describe a request, in `[request]`, `[submit]` and `[cancel]`."""

    path: Text
    query: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")


class RequestTable(CallTable):
    """`[request]`: the request of a poke."""

    method: Method = "GET"
    safe: bool = False
    follow: bool = False


class ItemsTable(Strict):
    """`[state.items]`."""

    path: Text
    where: dict[str, str] = Field(default_factory=dict)
    value: Text
    otherwise: str


class StateTable(Strict):
    """`[state]`: how the state is found, and the closed lists."""

    value: Cel | None = None
    items: ItemsTable | None = None
    success: Annotated[list[StateName], Field(min_length=1)]
    failure: list[StateName] = Field(default_factory=list)
    running: list[StateName] = Field(default_factory=list)
    not_found: list[StateName] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> "StateTable":
        if (self.value is None) == (self.items is None):
            raise ValueError("set either value or items")
        twice = sorted({str(state) for state in self.listed if self.listed.count(state) > 1})
        if twice:
            raise ValueError(f"on more than one list: {', '.join(twice)}")
        return self

    @property
    def listed(self) -> list[StateName]:
        """All listed states."""
        return [*self.success, *self.failure, *self.running, *self.not_found]


class OutcomeTable(Strict):
    """`[outcome]`: CEL for messages and payloads."""

    error: Cel | None = None
    message: Cel | None = None
    refusal: Cel | None = None
    result: Cel | None = None


class AnswerTable(Strict):
    """`[[answers]]`."""

    when: Cel
    means: Literal["not_now", "unauthorized", "not_found"]


class AdoptTable(Strict):
    """`[submit.adopt]`: how the job in conflict is found."""

    handle: dict[Name, Cel]
    method: Method = "GET"
    path: Text | None = None
    query: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    ours: bool = False


class SubmitTable(CallTable):
    """`[submit]`."""

    method: Literal["POST", "PUT"] = "POST"
    params: dict[Name, ParamTable] = Field(default_factory=dict)
    handle: Annotated[dict[Name, Cel], Field(min_length=1)]
    idempotent: bool
    idempotency_header: Text | None = None
    on_conflict: list[Literal["wait", "adopt", "fail"]] = Field(default=["fail"], min_length=1)
    conflict_statuses: list[int] = Field(default_factory=lambda: [409])
    adopt: AdoptTable | None = None

    @model_validator(mode="after")
    def _check(self) -> "SubmitTable":
        if "adopt" in self.on_conflict and self.adopt is None:
            raise ValueError("on_conflict adopt needs the table [submit.adopt]")
        return self


class CancelTable(CallTable):
    """`[cancel]`."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    gone: list[int] = Field(default_factory=lambda: [404, 409, 410])


class CaseTable(Strict):
    """`[[golden]]`: a test case, an answer and its verdict."""

    name: Text | None = None
    each: Literal["success", "failure", "running", "not_found"] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    request: Text | None = None
    request_json: Any = None
    status: Annotated[int, Field(ge=200, le=599)] = 200
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    json_body: Any = Field(default=None, alias="json")
    verdict: Literal["success", "failure", "pending", "unreachable"]
    reason: Text | None = None
    message: str | None = None
    payload: Any = None

    @model_validator(mode="after")
    def _check(self) -> "CaseTable":
        if (self.name is None) == (self.each is None):
            raise ValueError("set either name or each")
        if self.body is not None and self.json_body is not None:
            raise ValueError("set either body or json")
        return self


class PresetFile(Strict):
    """A preset's file."""

    kind: Kind
    title: Text
    docs: Text
    tested: Text
    notes: str = ""
    dialect: Literal["aws"] | None = None
    replaces: bool = False
    connection: ConnectionTable
    pace: PaceTable = PaceTable()
    params: dict[Name, ParamTable]
    request: RequestTable
    state: StateTable
    outcome: OutcomeTable = OutcomeTable()
    answers: list[AnswerTable] = Field(default_factory=list)
    submit: SubmitTable | None = None
    cancel: CancelTable | None = None
    golden: Annotated[list[CaseTable], Field(min_length=1)]

    def expressions(self) -> Iterator[str]:
        """Yields the expressions on the answers to a poke."""
        sources = [
            self.state.value,
            *(source for _, source in self.outcome),
            *(answer.when for answer in self.answers),
        ]
        yield from filter(None, sources)
