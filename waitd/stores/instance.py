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


class FileLocation(NamedTuple):
    """Where a file is. The device is left out: its number may change at a reboot."""

    path: str
    inode: int


def claim(connection: sqlite3.Connection, path: str, adopt_copy: bool) -> None:
    """Records that a daemon uses the file here from now on.

    Raises:
        StoreUnusable: the file is a copy, and its original still exists.
    """
    rows = connection.execute("SELECT id, starts, place FROM instance").fetchall()
    if len(rows) != 1:
        raise StoreUnusable(f"the table instance of the database {path} has {len(rows)} rows instead of one")
    instance_id, starts, stored = rows[0]
    here, before = FileLocation(path, identity_of(path)[1]), _decode(stored)
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


def _decode(stored: object) -> FileLocation | None:
    try:
        path, inode = orjson.loads(stored)  # type: ignore[arg-type]  # a column may hold anything
    except ValueError:
        return None
    return FileLocation(str(path), inode)


def _is_original(before: FileLocation, here: FileLocation, instance_id: str) -> bool:
    """Whether another file with this id still exists where the file was last used."""
    original = Path(before.path)
    try:
        if before.path == here.path or identity_of(before.path) == identity_of(here.path):
            return False
        with closing(sqlite3.connect(f"{original.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT id FROM instance").fetchall() == [(instance_id,)]
    except (OSError, sqlite3.Error):
        return False
