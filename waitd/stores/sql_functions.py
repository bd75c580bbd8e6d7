"""What SQLite and PostgreSQL write differently, for statements that run on both."""

from typing import Any

from sqlalchemy import ColumnElement, Float, FromClause, LargeBinary, Select, TableValuedAlias, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

#: No text of PostgreSQL has a NUL character, not even where JSON writes it as an escape.
_PG_JSON = r"replace({0}, '\u0000', '\ufffd')::json"
#: `{}` where a column holds no JSON, for which SQLite would refuse the query.
_SQLITE_JSON = "CASE WHEN (json_valid({0}) = 1) THEN {0} ELSE '{{}}' END"


class _Function(FunctionElement[Any]):
    """SQL for each database, with its arguments as {0}, {1} and so on."""

    name = "waitd"
    inherit_cache = False  # statements are compiled once

    def __init__(
        self,
        *arguments: ColumnElement[Any],
        sqlite: str,
        postgresql: str,
        type_: TypeEngine[Any] | None = None,
    ) -> None:
        super().__init__(*arguments)
        self.texts = {"sqlite": sqlite, "postgresql": postgresql}
        self.type = type_ or Text()


@compiles(_Function)
def _render(element: _Function, compiler: SQLCompiler, **kw: Any) -> str:
    arguments = [compiler.process(argument, **kw) for argument in element.clauses]
    return element.texts[compiler.dialect.name].format(*arguments)


def by_index(query: Select[Any], table: FromClause, index: str) -> Select[Any]:
    """The query, of which SQLite shall read the table by this index."""
    return query.with_hint(table, f"INDEXED BY {index}", "sqlite")


def without_index(query: Select[Any], table: FromClause) -> Select[Any]:
    """The query, of which SQLite shall read the whole table: an index may have a torn page."""
    return query.with_hint(table, "NOT INDEXED", "sqlite")


class RowId(ColumnElement[Any]):
    """Where a row of a table is; it stays there for the time of a transaction."""

    inherit_cache = False

    def __init__(self, table: str) -> None:
        """The row of `table`."""
        self.texts = {"sqlite": f"{table}.rowid", "postgresql": f"{table}.ctid"}


@compiles(RowId)
def _render_row_id(element: RowId, compiler: SQLCompiler, **_: Any) -> str:
    return element.texts[compiler.dialect.name]


class WaitHandle(RowId):
    """What identifies a wait for a while, and is found without reading its row."""

    inherit_cache = False

    def __init__(self) -> None:
        """The handle of a row of `waits`."""
        self.texts = {"sqlite": "waits.rowid", "postgresql": "waits.id"}


def text_items(array: ColumnElement[str]) -> TableValuedAlias:
    """The texts, or numbers, in a JSON array, as rows of `value`."""
    items = _Function(array, sqlite="json_each({0})", postgresql=f"json_array_elements_text({_PG_JSON})")
    return items.table_valued("value")


def json_items(column: ColumnElement[str], key: str) -> TableValuedAlias:
    """The items of the array under a key of the column's JSON: JSON texts, as rows of `value`."""
    items = _Function(
        column,
        sqlite=f"json_each({_SQLITE_JSON}, '$.{key}')",
        postgresql=f"json_array_elements({_PG_JSON} -> '{key}')",
    )
    return items.table_valued("value", joins_implicitly=True)


def json_pairs(column: ColumnElement[str], key: str) -> TableValuedAlias:
    """The names and texts in the object under a key of the column's JSON, as `key` and `value`."""
    pairs = _Function(
        column,
        sqlite=f"json_each({_SQLITE_JSON}, '$.{key}')",
        postgresql=f"json_each_text({_PG_JSON} -> '{key}')",
    )
    return pairs.table_valued("key", "value", joins_implicitly=True)


def json_text(column: ColumnElement[str], key: str, *, is_json: bool = False) -> ColumnElement[str]:
    """The text under a key of the column's JSON. `is_json`: it holds nothing else."""
    return _Function(
        column,
        sqlite=f"json_extract({'{0}' if is_json else _SQLITE_JSON}, '$.{key}')",
        postgresql="({0} ->> '" + key + "')" if is_json else f"({_PG_JSON} ->> '{key}')",
    )


def total(column: ColumnElement[Any]) -> ColumnElement[float]:
    """The sum of a column; 0.0 where there is no number."""
    return _Function(column, sqlite="total({0})", postgresql="coalesce(sum({0}), 0)::float8", type_=Float())


def stored_type(column: ColumnElement[Any]) -> ColumnElement[str]:
    """The type of the value in a column: `text`, `blob`, `integer`, `real` or `null`."""
    name = {"TEXT": "text", "BLOB": "blob", "FLOAT": "real"}.get(str(column.type), "integer")
    return _Function(
        column,
        sqlite="typeof({0})",
        postgresql=f"CASE WHEN {{0}} IS NULL THEN 'null' ELSE '{name}' END",
    )


def stored_value(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The value in a column. A text comes as bytes, since it may not be UTF-8."""
    return _Function(
        column,
        sqlite="CASE WHEN (typeof({0}) = 'text') THEN CAST({0} AS BLOB) ELSE {0} END",
        postgresql="convert_to({0}, 'UTF8')" if str(column.type) == "TEXT" else "{0}",
    )


def as_bytes(text: ColumnElement[str]) -> ColumnElement[bytes]:
    """The bytes of a text, which may not be UTF-8."""
    return _Function(
        text, sqlite="CAST({0} AS BLOB)", postgresql="convert_to({0}, 'UTF8')", type_=LargeBinary()
    )
