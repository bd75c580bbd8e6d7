"""Runs one SELECT on an SQLite file in a worker process, which is killed when it takes too long.

SQLite checks its time limit between instructions only, and one instruction may take hours: a
`replace` or `instr` of large texts, the `open` of a pipe. In a thread nothing could end it.
"""

import asyncio
import signal
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.probes.cel.workers import run_in_worker
from waitd.probes.sql.errors import NO_ROWS, TIMED_OUT, TOO_LARGE, sqlite_verdict
from waitd.probes.sql.read_limit import MAX_READ
from waitd.probes.sql.rows import QueryResult, SelectedRows, row_limit, selected_rows

#: How many workers may read one file at a time.
_WORKERS_PER_FILE = 2
#: The shares of the time that is left for a poke after which SQLite ends its statement, and after
#: which the worker ends itself: both verdicts come before the poke times out.
_STATEMENT_SHARE, _WORKER_SHARE = 0.8, 0.9
#: Instructions of SQLite's virtual machine between two checks of the time limit.
_STEPS = 10_000
#: The most memory that SQLite allocates, temporary tables and sorters included, in bytes.
_HEAP_LIMIT = 256 << 20
#: The largest value and row that SQLite handles, in bytes.
_LENGTH_LIMIT = 4 << 20
#: Seconds to wait for a lock on the file.
_BUSY_SECONDS = 0.5
_CANNOT_READ = Unreachable(
    "database_unavailable", "The database cannot answer now: it is not a regular file."
)
_WORKER_ENDED = Unreachable(
    "database_unavailable", "The database cannot answer now: the process that reads it ended."
)

#: Actions of statements that only read.
_ALLOWED_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
#: Functions that read or write outside the database.
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


class SqliteFiles:
    """Runs queries on files, a few at a time on each: a slow query delays no other file."""

    def __init__(self) -> None:
        self._limiters: dict[str, CapacityLimiter] = {}
        self._workers = CapacityLimiter(inf)

    async def select(
        self, path: str, statement: str, parameters: Sequence[Any], max_rows: int, deadline: float
    ) -> SelectedRows | Verdict:
        """Returns the first rows of a query, up to `max_rows`.

        Args:
            path: the absolute path of the file.
            statement: the statement, with `?` for each parameter.
            parameters: their values.
            max_rows: the most rows to return.
            deadline: when the poke times out, in the loop's time.
        """
        now = asyncio.get_running_loop().time
        async with self._limiters.setdefault(path, CapacityLimiter(_WORKERS_PER_FILE)):
            left = deadline - now()
            if left <= 0:
                return TIMED_OUT
            args = (path, statement, parameters, max_rows, left)
            try:
                return await run_in_worker(select_in_worker, *args, limiter=self._workers)
            except BrokenWorkerProcess:
                return TIMED_OUT if now() >= deadline - left * (1 - _WORKER_SHARE) else _WORKER_ENDED


def select_in_worker(
    path: str, statement: str, parameters: Sequence[Any], max_rows: int, left: float
) -> SelectedRows | Verdict:
    """Returns the first rows of a query. SIGALRM ends the process if it takes too long."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, left * _WORKER_SHARE)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return _CANNOT_READ
        with closing(_connect(path, monotonic() + left * _STATEMENT_SHARE)) as connection:
            return _select(connection, statement, parameters, max_rows)
    except Exception as error:  # noqa: BLE001 - every error is a verdict
        return sqlite_verdict(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _connect(path: str, end: float) -> sqlite3.Connection:
    uri = f"file:{quote(path)}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH_LIMIT)
    for pragma in (
        "query_only = ON",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
        f"hard_heap_limit = {_HEAP_LIMIT}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_progress_handler(lambda: monotonic() > end, _STEPS)
    connection.set_authorizer(_authorize)
    return connection


def _select(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any], max_rows: int
) -> SelectedRows | Verdict:
    cursor = connection.execute(statement, parameters)
    if cursor.description is None:
        return NO_ROWS
    columns = [str(column[0]) for column in cursor.description]
    rows: list[Sequence[Any]] = []
    left = MAX_READ
    for row in cursor:
        rows.append(row)
        left -= sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if left < 0:
            return TOO_LARGE
        if len(rows) == row_limit(len(columns), max_rows):
            break
    return selected_rows(QueryResult(columns, rows), max_rows)


def _authorize(action: int, _first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:  # fmt: skip
    """Allows a statement to read the connection's own file only: no ATTACH, PRAGMA or extension."""
    if action in _ALLOWED_ACTIONS:
        return sqlite3.SQLITE_OK
    is_allowed = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _FORBIDDEN_FUNCTIONS
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
