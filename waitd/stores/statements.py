"""SQLAlchemy Core statements, compiled once for each database and run over a `StoreConnection`.

SQLAlchemy's own cursor makes four hops to a SQLite connection's thread for a query; this makes one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ClauseElement, ColumnElement, Dialect, Select, Text, bindparam, select
from sqlalchemy.sql.compiler import SQLCompiler

from waitd.ports import ListPart
from waitd.stores.codec import well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.sql_functions import text_items


class _Compiled(NamedTuple):
    """A statement's text, the names of its parameters in order, and the values that it brings."""

    sql: str
    names: Sequence[str]
    values: Mapping[str, Any]


class Statement:
    """A statement that is compiled once for each dialect; its parameters are passed by name."""

    def __init__(self, core: ClauseElement) -> None:
        self._core = core
        self._by_dialect: dict[Dialect, _Compiled] = {}

    @property
    def select(self) -> Select[Any]:
        """The SELECT that it was compiled from."""
        if not isinstance(self._core, Select):
            raise TypeError(f"not a SELECT: {self._core}")
        return self._core

    def sql(self, dialect: Dialect) -> str:
        """The text that the database gets."""
        return self._compiled(dialect).sql

    async def fetch_all(self, connection: StoreConnection, **params: Any) -> list[tuple[Any, ...]]:
        """Its rows."""
        compiled = self._compiled(connection.dialect)
        return await connection.fetch_all(compiled.sql, _values(compiled, params))

    async def fetch_part(
        self, connection: StoreConnection, most_bytes: float, **params: Any
    ) -> ListPart[tuple[Any, ...]]:
        """Its rows until they have `most_bytes`."""
        compiled = self._compiled(connection.dialect)
        return await connection.fetch_part(compiled.sql, _values(compiled, params), most_bytes)

    def defer(self, connection: StoreConnection, *, must_change: int = 0, **params: Any) -> None:
        """Runs it together with the next statement that is fetched or committed.

        That fails if it changes fewer rows than `must_change`.
        """
        compiled = self._compiled(connection.dialect)
        connection.defer(compiled.sql, _values(compiled, params), must_change)

    def _compiled(self, dialect: Dialect) -> _Compiled:
        known = self._by_dialect.get(dialect)
        return known or self._by_dialect.setdefault(dialect, _compile(self._core, dialect))


def _compile(core: ClauseElement, dialect: Dialect) -> _Compiled:
    compiled = core.compile(dialect=dialect)
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"not a statement with parameters: {core}")
    own = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return _Compiled(str(compiled), list(compiled.positiontup or ()), own)


def _values(compiled: _Compiled, params: dict[str, Any]) -> list[Any]:
    own = compiled.values
    return [params[name] if name in params else own[name] for name in compiled.names]


def having(*columns: tuple[ColumnElement[str], str | None]) -> list[ColumnElement[bool]]:
    """The conditions that each column has its text; None stands for any text."""
    return [column == well_formed(text) for column, text in columns if text is not None]


def one_of(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """The condition that `column` is one of the texts in the parameter `name` (see `text_list`)."""
    return column.in_(select(text_items(bindparam(name, type_=Text)).c.value))


def text_list(values: Iterable[str]) -> str:
    """The parameter for `one_of`: any number of texts as one value."""
    return orjson.dumps(list(values)).decode()
