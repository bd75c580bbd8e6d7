"""Turns database errors into verdicts: SQLSTATEs, MySQL's error numbers and SQLite's codes.

Messages name the kind of error and do not quote the database's message, which may contain values of
rows and parameters.
"""

import errno
import sqlite3
from collections.abc import Iterator

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Failure, Unreachable, Verdict

#: SQLSTATE classes of errors in the statement: features, data, cardinality, read-only, syntax,
#: rights and sizes.
_PG_STATEMENT = ("0A", "21", "22", "25", "26", "34", "42", "44", "54", "P0")
#: SQLSTATE classes of errors in the login.
_PG_LOGIN = ("28", "3D")
_MYSQL_LOGIN = frozenset({1044, 1045, 1049, 1698, 1862, 3118, 3159, 4151})
#: Temporary errors of MySQL and MariaDB: limits, locks, time-outs, shutdown, network.
_MYSQL_TEMPORARY = frozenset({
    1020, 1021, 1023, 1030, 1037, 1038, 1040, 1041, 1053, 1077, 1079, 1080, 1129, 1135, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159,
    1160, 1161, 1180, 1184, 1189, 1190, 1203, 1205, 1206, 1213, 1226, 1317, 1412, 1614, 1615, 1637, 1836, 1880, 1927, 1969, 3024, 3032,
    3058, 3169, 3572, 4031,
})  # fmt: skip
_SQLITE_STATEMENT = frozenset({"SQLITE_ERROR", "SQLITE_AUTH", "SQLITE_READONLY", "SQLITE_MISMATCH", "SQLITE_RANGE", "SQLITE_SCHEMA", "SQLITE_MISUSE"})  # fmt: skip

TOO_LARGE = Unreachable("too_large", "The rows are over 256 KiB; select less in sql.")
TIMED_OUT = Unreachable("statement_timeout", "The statement took longer than request_timeout.")

_TOO_MUCH_MEMORY = Unreachable("too_large", "The statement needs too much memory; sort or join less in sql.")


def sql_verdict(error: BaseException) -> Verdict | CredentialsRefused | None:
    """Returns the verdict on a driver's or SQLAlchemy's error; None for any other."""
    for cause in _causes(error):
        verdict = _postgres_verdict(cause) or _mysql_verdict(cause)
        if verdict is not None:
            return verdict
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def _postgres_verdict(error: BaseException) -> Verdict | CredentialsRefused | None:  # noqa: PLR0911 - one return for each row of the table
    state = getattr(error, "sqlstate", None)
    module = type(error).__module__
    if module == "asyncpg.exceptions._base" or (module.startswith("asyncpg") and not isinstance(state, str)):
        name = type(error).__name__
        if name in {"DataError", "InterfaceError"} and "query argument" in str(error):
            return _statement("a parameter has another type than the statement needs")
        if name == "InterfaceError" and "positional argument" in str(error):
            return _statement(name)
        return Unreachable("disconnected", f"The connection to the database failed: {name}.")
    if not module.startswith("asyncpg") or not isinstance(state, str):
        return None
    name = f"{state} {type(error).__name__.removesuffix('Error')}"
    if state == "57014":
        return TIMED_OUT
    if state.startswith(_PG_LOGIN):
        return _login(name)
    return _statement(name) if state.startswith(_PG_STATEMENT) else _unavailable(name)


def _mysql_verdict(error: BaseException) -> Verdict | CredentialsRefused | None:
    if (
        not type(error).__module__.startswith("pymysql")
        or not error.args
        or not isinstance(error.args[0], int)
    ):
        return None
    number = error.args[0]
    if number in {1969, 3024}:
        return TIMED_OUT
    if number in _MYSQL_LOGIN:
        return _login(str(number))
    if number in _MYSQL_TEMPORARY or not number or 2000 <= number < 3000:
        return _unavailable(str(number))
    return _statement(str(number))


def sqlite_verdict(error: Exception) -> Verdict:  # noqa: PLR0911 - one return for each kind of error
    """Returns the verdict on an error of SQLite, or on one in handling its rows."""
    name = getattr(error, "sqlite_errorname", None)
    message = str(error)
    if isinstance(error, MemoryError):
        return _TOO_MUCH_MEMORY
    if name is None:
        if isinstance(error, sqlite3.Warning | sqlite3.ProgrammingError):
            return _statement("not one statement" if "one statement" in message else type(error).__name__)
        if isinstance(error, OSError):
            return _unavailable(errno.errorcode.get(error.errno or 0, type(error).__name__))
        return unreadable(error)
    if name == "SQLITE_INTERRUPT":
        return TIMED_OUT
    if name == "SQLITE_TOOBIG":
        return TOO_LARGE
    if "_".join(name.split("_")[:2]) not in _SQLITE_STATEMENT:
        return _unavailable(name)
    is_safe = message.startswith("no such ") and len(message) < 120  # it quotes only a name
    return _statement(f"{name}, {message}" if is_safe else name)


def unreadable(error: Exception) -> Unreachable:
    """Returns the verdict on rows that a driver or JSON cannot represent."""
    return Unreachable(
        "bad_answer", f"The rows cannot be read: {type(error).__name__}. Cast the columns to text in sql."
    )


def _statement(detail: str) -> Failure:
    return Failure("sql_error", f"The database refuses the statement: {detail}.", silenceable=True)


def _login(detail: str) -> CredentialsRefused:
    return CredentialsRefused(
        Failure("access_denied", f"The database refuses the connection's login: {detail}.", silenceable=True)
    )


def _unavailable(detail: str) -> Unreachable:
    return Unreachable("database_unavailable", f"The database cannot answer now: {detail}.")


#: The verdict on a statement that has no rows at all.
NO_ROWS = _statement("it returns no rows")
