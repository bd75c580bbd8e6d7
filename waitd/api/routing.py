"""What a line of the route table says: enough to serve it, to check requests by it, and to describe it in the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from waitd.api.server.loopback_guard import JSON
from waitd.core.auth.principal import Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parameter(NamedTuple):
    """A query parameter or (`where`) a header. `schema` is JSON Schema; `more`: what else OpenAPI says of it."""

    name: str
    schema: Mapping[str, Any]
    description: str
    where: str = "query"
    more: Mapping[str, Any] = {}


class Answer(NamedTuple):
    """One answer that is no problem. `models`: the body is one of these; none: text. `links`: by name, the operations that an answer
    leads to, and which parameter of theirs is found where in it.
    """

    status: int
    description: str
    models: Sequence[type[BaseModel]] = ()
    content_types: Sequence[str] = (JSON,)
    headers: Mapping[str, str] = {}
    links: Mapping[str, Mapping[str, Any]] = {}


class Body(NamedTuple):
    """What a POST takes. `models`: it is one of these; none: an empty object, or nothing at all. `example`: one as it is sent."""

    description: str
    models: Sequence[type[BaseModel]] = ()
    content_type: str = JSON
    needed: bool = True
    example: Any = None


#: The body of a call that takes none.
NO_FIELDS = Body("Nothing, or an empty object.", needed=False)
#: The role of a route that nobody needs to authenticate for: what the platform asks, and what a client reads before it has a key.
PUBLIC = None


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    Attributes:
        path: as aiohttp takes it.
        role: what a caller has to be for it; `PUBLIC`: nobody is asked who he is.
        operation: the operationId; "" keeps the route out of the document.
        answers: all that are no problems.
        problems: names of `problems.KINDS` that this route may answer, beside those that any of its form may.
        stores: whether it asks the store, which may be unavailable.
        action: what the audit calls it; "": it changes nothing.
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    operation: str
    tag: str
    summary: str
    answers: Sequence[Answer]
    problems: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    stores: bool = True
    action: str = ""
    query: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset(p.name for p in self.parameters if p.where == "query")
        object.__setattr__(self, "query", names)

    def all_problems(self) -> list[str]:
        """Every kind of problem that may be its answer. A mistake of ours (500) is none of them."""
        names = [
            "malformed-request",
            "forbidden-origin",
            "expectation-failed",
            "misdirected",
            "invalid-input",
            "request-timeout",
            "headers-too-large",
            "too-many-requests",
            "too-many-failures",
        ]
        if self.role is not PUBLIC:
            names += ["unauthenticated", "role-needed"]
        if self.body is not None:
            names += ["too-large", "unsupported-media-type"]
        if self.stores:
            names += ["unavailable"]
        return [*names, *self.problems]
