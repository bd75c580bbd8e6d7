"""The parameters of the kind `sql`: checked at submit as far as that goes without the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple
from weakref import WeakValueDictionary

import orjson
from pydantic import Field, StringConstraints
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from waitd import models
from waitd.core.errors import InvalidInput, Problem
from waitd.models import Strict, parsed
from waitd.probes.sql.evaluation import ConditionSources, problem

#: The longest statement, in characters, and the longest that one poke may take, in seconds.
MAX_SQL = 16 * 1024
MAX_REQUEST_TIMEOUT = 3600.0

Expression = Annotated[str, StringConstraints(min_length=1)] | None
Value = str | bool | int | float | None


class SqlParams(Strict):
    """What `params` of a wait of kind `sql` may hold: the names of Airflow's SqlSensor, and conditions for its callables."""

    conn_id: models.ConnId = Field(description="The connection that knows the database and the credentials.")
    sql: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SQL)] = Field(
        description="One SELECT; :name stands for a parameter."
    )
    parameters: dict[str, Value] = Field(
        default_factory=dict, description="The values of its parameters: strings, numbers, booleans, null."
    )
    success_when: Expression = Field(
        default=None, description="CEL over rows; default: the first cell of the first row is true."
    )
    failure_when: Expression = Field(default=None, description="CEL over rows; default: never.")
    message: Expression = Field(default=None, description="CEL; a string for people.")
    result: Expression = Field(default=None, description="CEL; the payload. Default: the rows.")
    request_timeout: float = Field(
        default=10.0, gt=0, le=MAX_REQUEST_TIMEOUT, description="Seconds one poke may take."
    )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Query:
    """What is asked of a database. Equal ones are one object while one of them is alive."""

    conn_id: str
    sql: str
    parameters: Mapping[str, Value]
    request_timeout: float


class SqlTarget(NamedTuple):
    """What a wait of kind `sql` asks, and what it makes of the answer."""

    query: Query
    sources: ConditionSources
    key: str

    @property
    def conn_id(self) -> str:
        """The connection that it names."""
        return self.query.conn_id

    @property
    def request_timeout(self) -> float:
        """Seconds that one poke may take."""
        return self.query.request_timeout


def sql_target(params: Mapping[str, Any], *, namespace: str) -> SqlTarget:
    """The target of a wait of kind `sql`.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    given = parsed(SqlParams, dict(params))
    sources = ConditionSources(given.success_when, given.failure_when, given.message, given.result)
    problems = [
        Problem(f"/{name}", wrong)
        for name, source in sources._asdict().items()
        if source is not None and (wrong := problem(name, source)) is not None
    ]
    problems += _parameter_problems(given)
    if problems:
        raise InvalidInput(problems)
    asked = (given.conn_id, given.sql, orjson.dumps(given.parameters, option=orjson.OPT_SORT_KEYS))
    key = blake2b(repr((namespace, given.request_timeout, *asked)).encode(), digest_size=16).hexdigest()
    query = _queries.get(key)
    if query is None:
        query = _queries[key] = Query(given.conn_id, given.sql, given.parameters, given.request_timeout)
    return SqlTarget(query, sources, key)


_queries: WeakValueDictionary[str, Query] = WeakValueDictionary()


def _parameter_problems(given: SqlParams) -> list[Problem]:
    try:
        given.sql.encode()
        orjson.dumps(given.parameters)
    except (UnicodeEncodeError, TypeError):
        return [
            Problem(
                "/sql", "it, or one of its parameters, is no Unicode text, or a number of more than 64 bits"
            )
        ]
    if "\0" in given.sql:
        return [Problem("/sql", "it has a NUL character")]
    try:
        named = set(text(given.sql).compile().params)
    except SQLAlchemyError:
        return [
            Problem(
                "/sql", "it is no statement with :name for parameters; write \\: for a colon that is none"
            )
        ]
    missing = [Problem("/sql", f"parameters has no {name}") for name in sorted(named - set(given.parameters))]
    unused = sorted(set(given.parameters) - named)
    return missing + [
        Problem(models.pointer(["parameters", name]), "the statement has no such parameter")
        for name in unused
    ]
