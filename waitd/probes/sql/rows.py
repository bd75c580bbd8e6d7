"""The rows of a query: their limits, and their cells as JSON values.

Workers import this module, so it imports no database driver and no CEL.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from waitd.core.connections.connection import Connection
from waitd.core.connections.sent_secrets import field_secrets, plain_mask
from waitd.core.waits.verdict import Unreachable
from waitd.probes.sql.errors import TOO_LARGE

#: The most rows that conditions see, and the most bytes of them as JSON.
MAX_ROWS = 100
MAX_BYTES = 256 * 1024
#: The most values in all rows, elements of arrays included: the event loop converts them, which
#: takes it up to 20 ms.
MAX_VALUES = 32_768
#: The longest whole number that is written out, in digits; a longer one is a float.
_MAX_DIGITS = 1000


class SelectedRows(NamedTuple):
    """The rows of a query, as conditions see them.

    Attributes:
        size: the size of the rows as JSON, in bytes.
        first_is_true: whether the first cell of the first row is true.
        truncated: whether the query has more rows.
    """

    rows: Sequence[Mapping[str, Any]]
    size: int
    first_is_true: bool
    truncated: bool = False


class QueryResult(NamedTuple):
    """The columns and rows that a database returned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def row_limit(columns: int, max_rows: int) -> int:
    """Returns how many rows to read: one more than `max_rows`, or than have MAX_VALUES."""
    return min(max_rows, MAX_VALUES // max(columns, 1)) + 1


def masked(selected: SelectedRows, connection: Connection, parameters: Mapping[str, object]) -> SelectedRows:
    """Masks in rows the connection's password, and the parameters of a query that are secrets."""
    encoded = orjson.dumps(selected.rows)
    rows = plain_mask(connection.password or "", *field_secrets(parameters)).mask_bytes(encoded)
    return selected if rows is encoded else selected._replace(rows=orjson.loads(rows))


def selected_rows(result: QueryResult, max_rows: int) -> SelectedRows | Unreachable:
    """Returns up to `max_rows` rows as JSON. Of columns with equal names the last counts.

    Raises:
        Exception: a value has no form in JSON.
    """
    kept = result.rows[:max_rows]
    converter = _Converter()
    try:
        rows = [dict(zip(result.columns, map(converter.convert, row), strict=True)) for row in kept]
    except _TooLargeError:
        return TOO_LARGE
    size = len(orjson.dumps(rows))
    if size > MAX_BYTES:
        return TOO_LARGE
    return SelectedRows(rows, size, bool(kept and kept[0] and kept[0][0]), len(result.rows) > max_rows)


class _TooLargeError(Exception):
    """There are more than MAX_VALUES values, or their texts have more than MAX_BYTES."""


class _Converter:
    """Converts cells and their elements to JSON values: times become text, bytes become base64."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._bytes = MAX_BYTES

    def convert(self, value: Any) -> Any:
        """Returns a cell as a JSON value.

        Raises:
            _TooLargeError: all values together are over a limit.
        """
        self._values -= 1
        if self._values < 0 or self._bytes < 0:
            raise _TooLargeError
        kind = type(value)
        if kind in _UNCHANGED:
            return value
        convert = _CONVERTERS.get(kind)
        if convert is not None:
            value = convert(value)
        elif isinstance(value, list | tuple | set | frozenset):
            return [self.convert(each) for each in value]
        elif hasattr(value, "items"):  # mappings and asyncpg's records
            return {str(name): self.convert(each) for name, each in value.items()}
        else:
            value = str(value)
        if type(value) is str:
            self._bytes -= len(value)
        return value


def _decimal_to_json(value: Decimal) -> Any:
    if value.is_snan():
        return float("nan")
    if not value.is_finite() or value.adjusted() >= _MAX_DIGITS or value != value.to_integral():
        return float(value)
    return _int_to_json(int(value))


def _int_to_json(value: int) -> int | str:
    return value if -(1 << 63) <= value < 1 << 63 else str(value)


def _bytes_to_json(value: bytes | bytearray | memoryview) -> str:
    return b64encode(value).decode()


_UNCHANGED = frozenset({type(None), bool, float})
_CONVERTERS: Mapping[type, Callable[[Any], Any]] = {
    str: str,
    int: _int_to_json,
    Decimal: _decimal_to_json,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    bytes: _bytes_to_json,
    bytearray: _bytes_to_json,
    memoryview: _bytes_to_json,
}
