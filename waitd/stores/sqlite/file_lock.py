"""Keeps a second daemon off a database file; the kernel releases the lock of a dead process."""

import fcntl
import os
from pathlib import Path

from waitd.core.errors import StoreUnusable


class FileLock:
    """The lock on `<database>.lock`. The file stays after `release`; only the lock on it counts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, database: Path) -> "FileLock":
        """Takes the lock without waiting.

        Raises:
            StoreUnusable: another process, or another store of this process, holds it.
        """
        path = database.with_name(database.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreUnusable(
                f"{database} is in use by another waitd (pid {holder}, lock file {path})"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Releases the lock."""
        os.close(self._descriptor)
