"""SQLAlchemy Core statements, compiled once for SQLite and run over a `ConnectionThread`.

SQLAlchemy's own cursor makes four hops to the connection's thread for a query; this makes one.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.sql.compiler import SQLCompiler

from waitd.ports import ListPart
from waitd.stores.codec import well_formed
from waitd.stores.sqlite.connection_thread import ConnectionThread, MustChange

_DIALECT = dialect(paramstyle="qmark")


class Statement:
    """A compiled statement; its parameters are passed by name."""

    def __init__(self, core: ClauseElement) -> None:
        compiled = core.compile(dialect=_DIALECT)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"not a statement with parameters: {core}")
        self._compiled = compiled
        self._core = core
        #: The text that SQLite gets.
        self.sql = str(compiled)

    @property
    def select(self) -> Select[Any]:
        """The SELECT that it was compiled from."""
        if not isinstance(self._core, Select):
            raise TypeError(f"not a SELECT: {self._core}")
        return self._core

    async def fetch_all(self, connection: ConnectionThread, **params: Any) -> list[tuple[Any, ...]]:
        """Its rows. Raises sqlite3.Error."""
        return await connection.fetch_all(self.sql, self._values(params))

    async def fetch_part(
        self, connection: ConnectionThread, most_bytes: float, **params: Any
    ) -> ListPart[tuple[Any, ...]]:
        """Its rows until they have `most_bytes`. Raises sqlite3.Error."""
        return await connection.fetch_part(self.sql, self._values(params), most_bytes)

    def defer(self, connection: ConnectionThread, *, must_change: int = 0, **params: Any) -> None:
        """Runs it together with the next statement that is fetched or committed.

        That fails if it changes fewer rows than `must_change`.
        """
        connection.defer(self.sql, self._values(params), MustChange(must_change) if must_change else None)

    def _values(self, params: dict[str, Any]) -> list[Any]:
        values = self._compiled.construct_params(params)
        return [values[name] for name in self._compiled.positiontup or ()]


def json_of(column: ColumnElement[str]) -> ColumnElement[str]:
    """The column's JSON; `{}` where it holds none, for which SQLite would refuse the query."""
    return case(
        (func.json_valid(column) == literal_column("1", Integer), column), else_=literal_column("'{}'", Text)
    )


def having(*columns: tuple[ColumnElement[str], str | None]) -> list[ColumnElement[bool]]:
    """The conditions that each column has its text; None stands for any text."""
    return [column == well_formed(text) for column, text in columns if text is not None]


def one_of(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """The condition that `column` is one of the texts in the parameter `name` (see `text_list`)."""
    items = func.json_each(bindparam(name, type_=Text)).table_valued("value")
    return column.in_(select(items.c.value))


def text_list(values: Iterable[str]) -> str:
    """The parameter for `one_of`: any number of texts as one value."""
    return orjson.dumps(list(values)).decode()
