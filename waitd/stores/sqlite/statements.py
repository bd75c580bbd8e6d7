"""Constant statements of SQLAlchemy Core, compiled once."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import ClauseElement, ColumnElement, Text, bindparam, func, select
from sqlalchemy.dialects.sqlite.aiosqlite import dialect
from sqlalchemy.sql.compiler import SQLCompiler

from waitd.stores.sqlite.connection_thread import ConnectionThread

_DIALECT = dialect()


class Statement:
    """A statement whose values are given by name when it runs."""

    def __init__(self, core: ClauseElement) -> None:
        compiled = core.compile(dialect=_DIALECT)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"no statement with values: {core}")
        self._compiled = compiled
        self._names: Sequence[str] = compiled.positiontup or ()
        #: As SQLite gets it.
        self.sql = str(compiled)

    async def run(self, link: ConnectionThread, **values: Any) -> list[tuple[Any, ...]]:
        """The rows that it gives, in the order of its columns; raises the driver's own errors (`sqlite3.Error`)."""
        given = self._compiled.construct_params(values)
        return await link.rows(self.sql, [given[name] for name in self._names])

    def write(self, link: ConnectionThread, **values: Any) -> None:
        """Runs it together with what is read or committed next; nobody wants its rows."""
        given = self._compiled.construct_params(values)
        link.keep(self.sql, [given[name] for name in self._names])


def one_of(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """The condition that `column` is one of the texts given as `name`, however many (encode them by `texts`)."""
    given = func.json_each(bindparam(name, type_=Text)).table_valued("value")
    return column.in_(select(given.c.value))


def texts(values: Iterable[str]) -> str:
    """The value for `one_of`."""
    return orjson.dumps(list(values)).decode()
