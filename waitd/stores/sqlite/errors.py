"""What an error of SQLite blames: the statement, the file for now, or the file for good."""

import sqlite3

from waitd.core.errors import StoreUnusable

#: Primary result codes that blame the statement, not the file: defects, which no retry mends.
_STATEMENT_ERRORS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
#: Primary result codes at opening that blame the file for good.
UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)


def is_unavailable(error: Exception) -> bool:
    """Whether the file is to blame (full disk, lock, I/O error): a retry may succeed."""
    code = result_code(error)
    return code is not None and code not in _STATEMENT_ERRORS


def result_code(error: BaseException) -> int | None:
    """The primary result code of SQLite in an error; None: it has none."""
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF  # the primary code, without details
    # Errors of the driver itself, e.g. a closed connection, have no code.
    return sqlite3.SQLITE_CANTOPEN if isinstance(cause, sqlite3.OperationalError) else None


def beyond_repair(path: str, error: BaseException) -> StoreUnusable:
    """The error for a file of which not even what each start needs can be read."""
    return StoreUnusable(
        f"the database {path} cannot be opened: {first_line(error)}. Restore it from a backup, or save what can"
        " be read with the .recover command of the sqlite3 shell"
    )


def first_line(error: BaseException) -> str:
    """The first line of what SQLite said; SQLAlchemy adds the statement below it."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
