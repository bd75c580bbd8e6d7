"""One daemon a database file: a lock that the kernel takes back when its holder dies, however that happens."""

import fcntl
import os
from pathlib import Path

from waitd.core.errors import StoreUnusable


class FileLock:
    """Holds `<database>.lock` from `acquire` to `release`. The file stays behind; only the lock on it counts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, database: Path) -> "FileLock":
        """Takes the lock, without waiting.

        Raises:
            StoreUnusable: another process (or another store of this one) holds it; the message names the file and its pid.
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
        """Gives the lock back."""
        os.close(self._descriptor)
