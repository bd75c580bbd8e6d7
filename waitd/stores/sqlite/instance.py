"""Identifies a database file: by its instance id, and by where a daemon last used it.

A copy carries both with it. So a copy that is started beside its original is recognized: both
would deliver every outcome.
"""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import orjson
import structlog

from waitd.core.errors import StoreUnusable
from waitd.stores.sqlite.file_watch import identity_of

log = structlog.get_logger(__name__)

#: No database is started so often.
_MAX_STARTS = 2**53


class FileLocation(NamedTuple):
    """Where a file is. The device is left out: its number may change at a reboot."""

    path: str
    inode: int


def claim(connection: sqlite3.Connection, path: str, adopt_copy: bool) -> None:
    """Records that a daemon uses the file here from now on.

    Raises:
        StoreUnusable: the file is a copy, and its original still exists.
    """
    instance_id, starts, before = _read(connection, path)
    here = FileLocation(path, identity_of(path)[1])
    new_id = instance_id
    if before is not None and before != here:
        if _is_original(before, here, instance_id):
            if not adopt_copy:
                raise StoreUnusable(
                    f"the database {path} is a copy of {before.path}, which still exists: both would deliver every"
                    f" outcome. Delete or move away the original if this copy replaces it, or run `waitd serve"
                    " --adopt-copy` once to use both; receivers can tell repeated events by their ids"
                )
            new_id = str(uuid.uuid4())
        log.warning(
            "database_moved",
            database=path,
            last_used_at=before.path,
            starts=starts,
            consequence="if a daemon still uses the original, both deliver every outcome",
            remedy="make sure that only one of them runs",
        )
    connection.execute(
        "UPDATE instance SET id = ?, starts = ?, place = ?",
        (new_id, starts + 1, orjson.dumps([*here]).decode()),
    )
    log.info("database_claimed", instance=new_id, starts=starts + 1)


def _read(connection: sqlite3.Connection, path: str) -> tuple[str, int, FileLocation | None]:
    """The stored id, number of starts and place; new ones if the row makes no sense."""
    # As bytes, since what is stored may be neither UTF-8 nor a number.
    rows = connection.execute(
        "SELECT CAST(id AS BLOB), CAST(starts AS BLOB), CAST(place AS BLOB) FROM instance"
    ).fetchall()
    try:
        ((instance_id, starts, stored),) = rows
        instance_id, starts = str(uuid.UUID(instance_id.decode())), int(starts)
        if not 0 <= starts < _MAX_STARTS:
            raise ValueError(starts)  # noqa: TRY301 - as every other value that makes no sense
        return instance_id, starts, _decode(stored)
    except (ValueError, TypeError, AttributeError):
        log.error(  # noqa: TRY400 - the traceback says nothing more
            "row_unreadable",
            table="instance",
            database=path,
            consequence="the database gets a new instance id; a copy of it will not be recognized",
        )
        connection.execute("DELETE FROM instance")
        connection.execute("INSERT INTO instance VALUES (?, 0, NULL)", (str(uuid.uuid4()),))
        return _read(connection, path)


def _decode(stored: bytes | None) -> FileLocation | None:
    if stored is None:
        return None
    path, inode = orjson.loads(stored)
    Path(path).as_uri()  # raises ValueError if it is no absolute path
    return FileLocation(path, int(inode))


def _is_original(before: FileLocation, here: FileLocation, instance_id: str) -> bool:
    """Whether another file with this id still exists where the file was last used."""
    original = Path(before.path)
    try:
        if before.path == here.path or identity_of(before.path) == identity_of(here.path):
            return False
        with closing(sqlite3.connect(f"{original.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT id FROM instance").fetchall() == [(instance_id,)]
    except (OSError, ValueError, sqlite3.Error):  # ValueError: a NUL character in the path
        return False
