"""What an error of SQLite blames: the statement, the file for now, or the file for good."""

import sqlite3

from waitd.core.errors import StoreUnusable
from waitd.stores.database import DatabaseFault

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


def is_damage(error: BaseException) -> bool:
    """Whether the error blames what is stored: a torn page, or text that is not UTF-8."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return (int(code) & 0xFF) == sqlite3.SQLITE_CORRUPT
    return "decode to UTF-8" in str(error)


def is_unavailable(error: Exception) -> bool:
    """Whether the file is to blame (full disk, lock, I/O error): a retry may succeed."""
    code = result_code(error)
    return code is not None and code not in _STATEMENT_ERRORS


def fault_of(error: Exception) -> DatabaseFault | None:
    """What the error blames; None: it is not SQLite's."""
    if not isinstance(error, sqlite3.Error):
        return None
    if is_damage(error):
        return DatabaseFault.DAMAGE
    if result_code(error) == sqlite3.SQLITE_FULL:
        return DatabaseFault.FULL
    return DatabaseFault.UNAVAILABLE if is_unavailable(error) else DatabaseFault.STATEMENT


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
