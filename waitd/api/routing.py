"""The types of the route table: what it takes to serve, check and describe a route."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web
from msgspec import Struct
from pydantic import BaseModel

from waitd.api.server.loopback_guard import JSON
from waitd.core.auth.principal import Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RouteParameter(NamedTuple):
    """A query parameter, or a header if `where` says so.

    Attributes:
        schema: JSON Schema of its value.
        extra: further keys of the OpenAPI parameter object.
    """

    name: str
    schema: Mapping[str, Any]
    description: str
    where: str = "query"
    extra: Mapping[str, Any] = {}


class RouteAnswer(NamedTuple):
    """A successful answer of a route.

    Attributes:
        models: the body has the form of one of these; without any it is text.
        links: by name, operations that the answer leads to, and where in it their parameters are.
    """

    status: int
    description: str
    models: Sequence[type[BaseModel]] = ()
    content_types: Sequence[str] = (JSON,)
    headers: Mapping[str, str] = {}
    links: Mapping[str, Mapping[str, Any]] = {}


class RouteBody(NamedTuple):
    """The body that a POST takes.

    Attributes:
        models: the body has the form of one of these; without any it is empty, or an empty object.
        example: a body as it is sent.
    """

    description: str
    models: Sequence[type[BaseModel] | type[Struct]] = ()
    content_type: str = JSON
    required: bool = True
    example: Any = None


#: The body of a call without fields.
NO_FIELDS = RouteBody("Nothing, or an empty object.", required=False)
#: The role of a route without authentication: for health checks, and for clients without a key.
PUBLIC = None


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One line of the route table.

    Attributes:
        path: in aiohttp's syntax.
        role: the role that a caller needs; `PUBLIC`: no authentication.
        operation: the operationId; "" keeps the route out of the OpenAPI document.
        answers: the successful answers.
        problems: names in `PROBLEM_KINDS` that only routes like this one may answer.
        uses_store: whether it reads or writes the store, which may be unavailable.
        action: its name in the audit; "" if it changes nothing.
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    operation: str
    tag: str
    summary: str
    answers: Sequence[RouteAnswer]
    problems: Sequence[str] = ()
    parameters: Sequence[RouteParameter] = ()
    body: RouteBody | None = None
    uses_store: bool = True
    action: str = ""

    def all_problems(self) -> list[str]:
        """Returns every kind of problem that it may answer, except internal errors (500)."""
        names = [
            "malformed-request",
            "forbidden-origin",
            "expectation-failed",
            "misdirected",
            "invalid-input",
            "request-timeout",
            "unsupported-media-type",
            "headers-too-large",
            "too-many-requests",
            "too-many-failures",
        ]
        if self.role is not PUBLIC:
            names += ["unauthenticated", "role-needed"]
        if self.body is not None:
            names += ["too-large"]
        if self.uses_store:
            names += ["unavailable"]
        return [*names, *self.problems]
