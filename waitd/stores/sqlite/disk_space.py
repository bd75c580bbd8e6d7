"""Measures the disk of a database."""

import os
import sqlite3

from waitd.core.disk_room import DiskSpace


def measure_disk(connection: sqlite3.Connection, path: str) -> DiskSpace:
    """The space on the disk, and the free pages inside the file `path`. Raises OSError."""
    disk, file_size = os.statvfs(path), os.stat(path).st_size  # noqa: PTH116 - the path is text, and this runs every second
    [[page_size]] = connection.execute("PRAGMA page_size")
    [[pages]] = connection.execute("PRAGMA page_count")
    [[free_pages]] = connection.execute("PRAGMA freelist_count")
    # By so much the file grows when its write-ahead log is copied into it.
    growth = max(0, pages * page_size - file_size)
    free = max(0, disk.f_bavail * disk.f_frsize - growth)
    return DiskSpace(disk.f_blocks * disk.f_frsize, free, free_pages * page_size)
