"""The rows that cannot be read: they are set aside and listed, and all others are served.

Nothing is changed in the file: a row that was mended is found readable again by the next check.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from typing import Any, TypeVar

import structlog

from waitd.ports import UnreadableWait

log = structlog.get_logger(__name__)

Row = TypeVar("Row", bound=tuple[Any, ...])
Value = TypeVar("Value")

#: What decoding a row raises if one of its values is wrong.
DECODE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
#: How much of an error's text is kept: it may quote the row.
_ERROR_LENGTH = 300
#: What to do about a torn page. SQLite cannot rebuild an index with one.
DAMAGE_REMEDY = (
    "stop the daemon, save the waits with `waitd export --offline`, and import them into a new database"
)


class UnreadableRows:
    """The rows that could not be read, each with the reason, by table and id.

    An id is what the column holds, which is not always a text.
    """

    def __init__(self) -> None:
        self._errors: dict[str, dict[Any, str]] = {}

    def add(self, table: str, row_id: Any, error: object) -> None:
        """Sets a row aside; logs it the first time."""
        errors = self._errors.setdefault(table, {})
        reason = describe_error(error)
        if errors.get(row_id) != reason:
            errors[row_id] = reason
            log.error(
                "row_unreadable",
                table=table,
                id=display_id(row_id),
                error=reason,
                consequence="it is set aside, and everything else is served",
                remedy="waitd list --state unreadable; waitd export writes it as it is; mend or delete the row",
            )

    def discard(self, table: str, row_id: Any) -> None:
        """Forgets a row that was mended or deleted."""
        if self._errors.get(table, {}).pop(row_id, None) is not None:
            log.info("row_readable_again", table=table, id=display_id(row_id))

    def errors(self, table: str) -> dict[Any, str]:
        """The reasons of a table's rows, by id."""
        return dict(self._errors.get(table, {}))

    def counts(self) -> dict[str, int]:
        """The number of rows by table."""
        return {table: len(errors) for table, errors in self._errors.items()}

    def readable(self, table: str, rows: Iterable[Row], decode: Callable[[Row], Value]) -> Iterator[Value]:
        """Decodes rows, whose first column is the id; sets aside those that cannot be decoded."""
        for row in rows:
            try:
                yield decode(row)
            except DECODE_ERRORS as error:
                self.add(table, row[0], error)


def describe_error(error: object) -> str:
    """The reason in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"it has no {text}"
    return " ".join(text.split())[:_ERROR_LENGTH]


def display_id(row_id: Any) -> str:
    """An id as text; one that is none is shown as SQL writes it."""
    if isinstance(row_id, str):
        return row_id
    if isinstance(row_id, bytes):
        return f"x'{row_id.hex()}'"
    return "NULL" if row_id is None else str(row_id)


def unreadable_wait(row_id: Any, error: str, row: dict[str, tuple[str, Any]]) -> UnreadableWait:
    """A row as JSON can hold it.

    `row`: each column's type in SQLite, and its value; a text comes as bytes.
    """
    plain = {name: _plain(kind, value) for name, (kind, value) in row.items()}
    namespace = plain.get("namespace")
    return UnreadableWait(display_id(row_id), namespace if isinstance(namespace, str) else None, error, plain)


def _plain(kind: str, value: Any) -> Any:
    if kind == "text":
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            kind = "blob"
    if kind == "blob":
        return {"base64": base64.b64encode(bytes(value)).decode()}
    return str(value) if isinstance(value, float) and not isfinite(value) else value
