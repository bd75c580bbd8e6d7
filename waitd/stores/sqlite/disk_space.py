"""Measures the disk of a database."""

import os
import sqlite3
from contextlib import suppress

from waitd.core.disk_room import DiskSpace


def measure_disk(connection: sqlite3.Connection, path: str) -> DiskSpace:
    """The space on the disk, and the free pages inside the file `path`. Raises OSError."""
    disk, file_size = os.statvfs(path), os.stat(path).st_size  # noqa: PTH116 - the path is text, and this runs every second
    [[page_size]] = connection.execute("PRAGMA page_size")
    [[pages]] = connection.execute("PRAGMA page_count")
    [[free_pages]] = connection.execute("PRAGMA freelist_count")
    # By so much the file grows when its write-ahead log is copied into it.
    growth = max(0, pages * page_size - file_size)
    free = disk.f_bavail * disk.f_frsize - growth
    log_size = 0
    if free >= 0:  # else the log cannot be emptied
        with suppress(FileNotFoundError):
            log_size = os.stat(f"{path}-wal").st_size  # noqa: PTH116 - as above
    return DiskSpace(disk.f_blocks * disk.f_frsize, max(0, free), free_pages * page_size, log_size)
