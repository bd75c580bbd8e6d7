"""Notices that the database's files were deleted, exchanged or unmounted under the daemon.

SQLite goes on with files that have no name any more, and all that is written into them is lost
with the process. PostgreSQL looks at its lock file for the same reason.
"""

import os
from pathlib import Path

#: Device and inode.
Identity = tuple[int, int]


class FileWatch:
    """What the names of the database's files referred to when it was opened."""

    def __init__(self, database: Path) -> None:
        """Notes the identities of the files, which must exist."""
        suffixes = ("", "-wal", ".lock")
        self._database = str(database)
        self._files = {path: identity_of(path) for path in (f"{database}{end}" for end in suffixes)}

    def is_unmoved(self) -> bool:
        """Whether the database itself is still the same file."""
        try:
            return identity_of(self._database) == self._files[self._database]
        except OSError:
            return False

    def find_loss(self) -> str:
        """What happened to one of the files, in a sentence; "" if all are still the same."""
        for path, identity in self._files.items():
            try:
                now = identity_of(path)
            except FileNotFoundError:
                return f"{path} was deleted, renamed or unmounted"
            except OSError as error:
                return f"{path} cannot be read: {error.strerror}"
            if now != identity:
                return f"{path} was replaced by another file"
        return ""


def identity_of(path: str) -> Identity:
    """The file that a name refers to now. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116 - before each COMMIT, and pathlib takes five times as long
    return status.st_dev, status.st_ino
