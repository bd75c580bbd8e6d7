"""Many rows in one statement.

`executemany` runs a statement a row, and the driver's thread gives up Python's lock around each: beside a loop that has work to do it
waits for the lock at every row (measured: 75 ms a row on two cores, against 0.1 ms for the statement as a whole). So rows go as
`VALUES (…), (…), …`, 512 at a time, then a multiple of 64, of 8, and the last few, which makes few statements of any number of rows and
few texts to prepare.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from waitd.stores.sqlite.connection_thread import ConnectionThread

#: Rows in the largest statement; times the columns it stays under SQLite's 32,766 parameters.
LARGEST = 512
#: The number of rows in a statement is a multiple of one of these.
_STEPS = (LARGEST, 64, 8, 1)


class Bulk(NamedTuple):
    """A statement over rows: the SQL before the rows, the number of values a row, the SQL after them."""

    before: str
    width: int
    after: str = ""


def insert_into(table: str, columns: Sequence[str]) -> Bulk:
    """Inserts rows of `columns`."""
    return Bulk(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ", len(columns))  # noqa: S608 - names of our own


def update(table: str, columns: Sequence[str], only_where: str) -> Bulk:
    """Sets `columns` (all but the first) of the row whose first column is the given one, where the condition `only_where` holds."""
    # SQLite names the columns of VALUES so, and takes no other names.
    assignments = ", ".join(
        f"{column} = given.column{number}" for number, column in enumerate(columns[1:], start=2)
    )
    return Bulk(
        f"UPDATE {table} SET {assignments} FROM (VALUES ",  # noqa: S608 - names of our own
        len(columns),
        f") AS given WHERE {table}.{columns[0]} = given.column1 AND {only_where}",
    )


def write(link: ConnectionThread, bulk: Bulk, rows: Sequence[Sequence[Any]]) -> None:
    """Runs `bulk` over all `rows`, together with what is read or committed next."""
    for chunk in _chunks(rows):
        link.keep(sql(bulk, len(chunk)), list(chain.from_iterable(chunk)))


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    start = 0
    for step in _STEPS:
        while len(rows) - start >= step:
            size = min(LARGEST, (len(rows) - start) // step * step)
            yield rows[start : start + size]
            start += size


@cache
def sql(bulk: Bulk, rows: int) -> str:
    row = "(" + ", ".join("?" * bulk.width) + ")"
    return bulk.before + ", ".join([row] * rows) + bulk.after
