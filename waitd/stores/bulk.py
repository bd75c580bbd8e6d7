"""Statements that write many rows at once: what they say, for any database.

How many go at a time, and in what words, is the connection's affair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ColumnElement, Table


class Verb(Enum):
    """What happens to each row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class OnConflict(Enum):
    """What an insert does to a row that has the same primary key: its other columns."""

    REPLACE = "replaces them"
    ADD = "adds to them"


@dataclass(frozen=True, slots=True, eq=False)
class BulkStatement:
    """A statement over rows of `columns`.

    Attributes:
        condition: an update leaves out rows for which it does not hold.
        on_conflict: None: an error.
    """

    verb: Verb
    table: Table
    columns: tuple[str, ...]
    condition: ColumnElement[bool] | None = None
    on_conflict: OnConflict | None = None

    def key(self) -> Sequence[str]:
        """The columns of the primary key."""
        return [column.name for column in self.table.primary_key]

    def others(self) -> Sequence[str]:
        """The columns besides those of the primary key."""
        key = self.key()
        return [name for name in self.columns if name not in key]


def insert_into(
    table: Table, columns: Sequence[str] = (), on_conflict: OnConflict | None = None
) -> BulkStatement:
    """Inserts rows of `columns`; without any of all columns."""
    return BulkStatement(Verb.INSERT, table, tuple(columns or table.columns.keys()), on_conflict=on_conflict)


def update(
    table: Table, columns: Sequence[str], condition: ColumnElement[bool] | None = None
) -> BulkStatement:
    """Sets `columns[1:]` in the row that `columns[0]` identifies, if `condition` holds for it."""
    return BulkStatement(Verb.UPDATE, table, tuple(columns), condition)


def delete_from(table: Table, columns: Sequence[str]) -> BulkStatement:
    """Deletes the rows that have these values in `columns`; a row that is gone is no error."""
    return BulkStatement(Verb.DELETE, table, tuple(columns))
