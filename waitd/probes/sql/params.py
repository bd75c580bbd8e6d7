"""The parameters of the kind `sql`, checked at submit without asking the database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from typing import Annotated, Any, NamedTuple
from weakref import WeakValueDictionary

import orjson
from pydantic import Field, StringConstraints
from sqlalchemy import text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from waitd import models
from waitd.core.errors import InvalidInput, Problem
from waitd.models import Strict, parse_model
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.sql.evaluation import ROWS_ENV

#: The longest statement, in characters.
MAX_SQL = 16 * 1024

ConditionText = Annotated[str, StringConstraints(min_length=1)] | None
ParameterValue = str | bool | int | float | None


class SqlParams(Strict):
    """The `params` of kind `sql`: Airflow's SqlSensor's names, and conditions for its callables."""

    conn_id: models.ConnId = Field(description="The connection of the database.")
    sql: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SQL)] = Field(
        description="One SELECT; :name stands for a parameter."
    )
    parameters: dict[str, ParameterValue] = Field(
        default_factory=dict, description="The values of the parameters: strings, numbers, booleans, null."
    )
    success_when: ConditionText = Field(
        default=None, description="CEL over rows; default: the first cell of the first row is true."
    )
    failure_when: ConditionText = Field(default=None, description="CEL over rows; default: never.")
    message: ConditionText = Field(default=None, description="CEL; a string for people.")
    result: ConditionText = Field(default=None, description="CEL; the payload. Default: the rows.")
    request_timeout: models.RequestTimeout = 10.0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Query:
    """A query of one database. Waits with equal queries share one object."""

    conn_id: str
    sql: str
    parameters: Mapping[str, ParameterValue]
    request_timeout: float

    @property
    def positional(self) -> tuple[str, Sequence[ParameterValue]]:
        """The statement with `?` for each parameter, and their values in this order."""
        statement, names = _positional(self.sql)
        return statement, [self.parameters[name] for name in names]


@lru_cache(maxsize=256)
def _positional(sql: str) -> tuple[str, Sequence[str]]:
    compiled = text(sql).compile(dialect=sqlite.dialect())
    return str(compiled), compiled.positiontup or ()


class SqlTarget(NamedTuple):
    """A query, and the conditions on its rows."""

    query: Query
    conditions: ConditionSources
    key: str

    @property
    def conn_id(self) -> str:
        """The connection of the query."""
        return self.query.conn_id

    @property
    def request_timeout(self) -> float:
        """How many seconds one poke may take."""
        return self.query.request_timeout


def sql_target(params: Mapping[str, Any], *, namespace: str) -> SqlTarget:
    """Returns the target of these parameters.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    sql_params = parse_model(SqlParams, dict(params))
    conditions = ConditionSources(
        sql_params.success_when, sql_params.failure_when, sql_params.message, sql_params.result
    )
    problems = [*ROWS_ENV.condition_problems(conditions), *_statement_problems(sql_params)]
    if problems:
        raise InvalidInput(problems)
    parts = (
        sql_params.conn_id,
        sql_params.sql,
        orjson.dumps(sql_params.parameters, option=orjson.OPT_SORT_KEYS),
    )
    key = blake2b(repr((namespace, sql_params.request_timeout, *parts)).encode(), digest_size=16).hexdigest()
    query = _queries.get(key)
    if query is None:
        query = _queries[key] = Query(
            sql_params.conn_id, sql_params.sql, sql_params.parameters, sql_params.request_timeout
        )
    return SqlTarget(query, conditions, key)


_queries: WeakValueDictionary[str, Query] = WeakValueDictionary()


def _statement_problems(sql_params: SqlParams) -> Iterator[Problem]:
    try:
        sql_params.sql.encode()
        orjson.dumps(sql_params.parameters)
    except (UnicodeEncodeError, TypeError):
        yield Problem(
            "/sql", "the statement or a parameter is not valid Unicode, or is an integer of more than 64 bits"
        )
        return
    if "\0" in sql_params.sql:
        yield Problem("/sql", "the statement has a NUL character; remove it")
        return
    for name, value in sql_params.parameters.items():
        if isinstance(value, float) and not isfinite(value):
            yield Problem(models.pointer(["parameters", name]), "NaN and infinity are not numbers of JSON")
    try:
        names = set(text(sql_params.sql).compile().params)
    except SQLAlchemyError:
        yield Problem(
            "/sql",
            "the statement's :name parameters cannot be parsed; write \\: for a colon that is not one",
        )
        return
    for name in sorted(names - set(sql_params.parameters)):
        yield Problem("/sql", f"the statement has :{name}, but parameters has no {name}")
    for name in sorted(set(sql_params.parameters) - names):
        yield Problem(models.pointer(["parameters", name]), f"the statement has no :{name}; remove it")
