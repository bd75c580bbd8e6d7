"""Statements that write many rows at once.

`executemany` runs one statement a row and releases the GIL around each; beside a busy event loop
the thread waits to get it back every time (measured on two cores: 75 ms a row, against 0.1 ms for
the whole statement). So rows go as `VALUES (…), (…), …`: 512 at a time, then a multiple of 64, of
8, and the last few one by one, so that few different texts have to be prepared.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from waitd.stores.sqlite.connection_thread import ConnectionThread, MustChange

#: Rows in the largest statement. Times the columns, it stays under SQLite's 32,766 parameters.
MAX_ROWS = 512
#: The number of rows in a statement is a multiple of one of these.
_STEPS = (MAX_ROWS, 64, 8, 1)


class BulkStatement(NamedTuple):
    """SQL before the rows, the number of values in a row, SQL after the rows.

    `left_out`: SQL around the same rows that finds those which the statement had to change and did
    not; it runs where fewer rows changed than were given. None: any number may change.
    """

    before: str
    width: int
    after: str = ""
    left_out: tuple[str, str] | None = None


#: For statements that have to change every row.
NONE_LEFT_OUT = ("SELECT 1 FROM (VALUES ", ")")


def insert_into(table: str, columns: Sequence[str]) -> BulkStatement:
    """Inserts rows of `columns`."""
    return BulkStatement(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ",  # noqa: S608 - constant names
        len(columns),
        left_out=NONE_LEFT_OUT,
    )


def update(table: str, columns: Sequence[str], condition: str) -> BulkStatement:
    """Sets `columns[1:]` in the row that `columns[0]` identifies, if the SQL `condition` holds."""
    # SQLite names the columns of VALUES column1, column2, …; they cannot be renamed.
    assignments = ", ".join(
        f"{column} = updated.column{number}" for number, column in enumerate(columns[1:], start=2)
    )
    same_row = f"{table}.{columns[0]} = updated.column1"
    differs = " OR ".join(
        f"{table}.{column} IS NOT updated.column{number}"
        for number, column in enumerate(columns[1:], start=2)
    )
    return BulkStatement(
        f"UPDATE {table} SET {assignments} FROM (VALUES ",  # noqa: S608 - constant names
        len(columns),
        f") AS updated WHERE {same_row} AND {condition}",
        (
            f"SELECT 1 FROM {table}, (VALUES ",  # noqa: S608 - constant names
            f") AS updated WHERE {same_row} AND {condition} AND ({differs}) LIMIT 1",
        ),
    )


def defer(connection: ConnectionThread, bulk: BulkStatement, rows: Sequence[Sequence[Any]]) -> None:
    """Runs `bulk` over `rows`, together with the next statement that is fetched or committed."""
    for chunk in _chunks(rows):
        sql, left_out = _texts(bulk, len(chunk))
        values = list(chain.from_iterable(chunk))
        must_change = None if left_out is None else MustChange(len(chunk), left_out, values)
        connection.defer(sql, values, must_change)


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    start = 0
    for step in _STEPS:
        while len(rows) - start >= step:
            size = min(MAX_ROWS, (len(rows) - start) // step * step)
            yield rows[start : start + size]
            start += size


def sql_of(bulk: BulkStatement, rows: int) -> str:
    """The statement's text for this number of rows."""
    return _texts(bulk, rows)[0]


@cache
def _texts(bulk: BulkStatement, rows: int) -> tuple[str, str | None]:
    row = "(" + ", ".join("?" * bulk.width) + ")"
    values = ", ".join([row] * rows)
    left_out = None if bulk.left_out is None else values.join(bulk.left_out)
    return bulk.before + values + bulk.after, left_out
