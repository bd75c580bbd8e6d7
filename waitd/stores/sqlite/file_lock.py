"""Keeps a second daemon off a database file; the kernel releases the lock of a dead process."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from waitd.core.errors import StoreUnusable


class FileLock:
    """The locks on `<database>.lock` and on the database itself.

    The lock file stays after `release`; only the lock on it counts. The second lock keeps a daemon
    off the database whose lock file was deleted. SQLite's own locks are of another kind.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = descriptors

    @classmethod
    def acquire(cls, database: Path) -> "FileLock":
        """Takes the lock without waiting.

        Raises:
            StoreUnusable: another process, or another store of this process, holds it.
        """
        path = database.with_name(database.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        descriptors = [descriptor]
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # SQLite would create the file readable by others; its side files copy its rights.
            descriptors.append(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
            fcntl.flock(descriptors[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            _close(descriptors)
            raise StoreUnusable(
                f"{database} is in use by another waitd (pid {holder}, lock file {path})"
            ) from None
        except OSError:
            _close(descriptors)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptors)

    def release(self) -> None:
        """Releases the locks. No connection may be open: closing the file drops SQLite's locks."""
        _close(self._descriptors)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
