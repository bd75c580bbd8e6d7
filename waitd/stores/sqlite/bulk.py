"""Statements that write many rows at once, in SQLite's words.

`executemany` runs one statement a row and releases the GIL around each; beside a busy event loop
the thread waits to get it back every time (measured on two cores: 75 ms a row, against 0.1 ms for
the whole statement). So rows go as `VALUES (…), (…), …`: 512 at a time, then a multiple of 64, of
8, and the last few one by one, so that few different texts have to be prepared.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from waitd.stores.bulk import BulkStatement, OnConflict, Verb
from waitd.stores.sqlite.dialect import DIALECT

#: Rows in the largest statement. Times the columns, it stays under SQLite's 32,766 parameters.
MAX_ROWS = 512
#: The number of rows in a statement is a multiple of one of these.
_STEPS = (MAX_ROWS, 64, 8, 1)
#: For statements that have to change every row.
_NONE_LEFT_OUT = ("SELECT 1 FROM (VALUES ", ")")


class MustChange(NamedTuple):
    """How many rows a statement has to change.

    If it changes fewer, the query `left_out` finds a row that it should have changed; `values` are
    its parameters.
    """

    rows: int
    left_out: str = "SELECT 1"
    values: Sequence[Any] = ()


class _Text(NamedTuple):
    """SQL before the rows and after them.

    `left_out`: SQL around the same rows that finds those which the statement had to change and did
    not; it runs where fewer rows changed than were given. None: any number may change.
    """

    before: str
    after: str = ""
    left_out: tuple[str, str] | None = None


def chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows of one statement each."""
    start = 0
    for step in _STEPS:
        while len(rows) - start >= step:
            size = min(MAX_ROWS, (len(rows) - start) // step * step)
            yield rows[start : start + size]
            start += size


@cache
def texts(statement: BulkStatement, rows: int) -> tuple[str, str | None]:
    """The statement for this number of rows, and the query for those that it left out."""
    text = _text(statement)
    row = "(" + ", ".join("?" * len(statement.columns)) + ")"
    values = ", ".join([row] * rows)
    left_out = None if text.left_out is None else values.join(text.left_out)
    return text.before + values + text.after, left_out


def _text(statement: BulkStatement) -> _Text:
    match statement.verb:
        case Verb.INSERT:
            return _insert(statement)
        case Verb.UPDATE:
            return _update(statement)
        case Verb.DELETE:
            return _delete(statement)


def _insert(statement: BulkStatement) -> _Text:
    into = f"INSERT INTO {statement.table.name} ({', '.join(statement.columns)}) VALUES "  # noqa: S608 - constant names
    after = ""
    if statement.on_conflict is not None:
        old = f"{statement.table.name}." if statement.on_conflict is OnConflict.ADD else ""
        changed = [
            f"{name} = {old}{name} + excluded.{name}" if old else f"{name} = excluded.{name}"
            for name in statement.others()
        ]
        after = f" ON CONFLICT ({', '.join(statement.key())}) DO UPDATE SET {', '.join(changed)}"
    return _Text(into, after, _NONE_LEFT_OUT)


def _update(statement: BulkStatement) -> _Text:
    table, (key, *others) = statement.table.name, statement.columns
    # SQLite names the columns of VALUES column1, column2, …; they cannot be renamed.
    numbered = list(enumerate(others, start=2))
    assignments = ", ".join(f"{name} = updated.column{number}" for number, name in numbered)
    differs = " OR ".join(f"{table}.{name} IS NOT updated.column{number}" for number, name in numbered)
    same_row = f"{table}.{key} = updated.column1"
    if statement.condition is not None:
        same_row += f" AND {statement.condition.compile(dialect=DIALECT)}"
    return _Text(
        f"UPDATE {table} SET {assignments} FROM (VALUES ",  # noqa: S608 - constant names
        f") AS updated WHERE {same_row}",
        (
            f"SELECT 1 FROM {table}, (VALUES ",  # noqa: S608 - constant names
            f") AS updated WHERE {same_row} AND ({differs}) LIMIT 1",
        ),
    )


def _delete(statement: BulkStatement) -> _Text:
    # From a SELECT, SQLite looks each row up by the key; from VALUES alone it scans the table.
    table, columns = statement.table.name, statement.columns
    numbered = ", ".join(f"column{number + 1}" for number in range(len(columns)))
    return _Text(
        f"DELETE FROM {table} WHERE ({', '.join(columns)}) IN (SELECT {numbered} FROM (VALUES ",  # noqa: S608 - constant names
        "))",
    )
