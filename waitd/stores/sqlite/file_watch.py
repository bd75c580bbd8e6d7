"""Notices that the database's files were deleted, exchanged or unmounted under the daemon.

SQLite goes on with files that have no name any more, and all that is written into them is lost
with the process. PostgreSQL looks at its lock file for the same reason.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from waitd.stores.sqlite.connection_thread import ConnectionThread

#: How many bytes a write-ahead log has before its first frame, and a frame before its page.
_LOG_HEAD, _FRAME_HEAD = 32, 24

#: Device and inode.
Identity = tuple[int, int]


class FileWatch:
    """What the names of the database's files referred to when it was opened.

    Attributes:
        shrunk: the files that have become smaller, each with its size in bytes. A checkpoint of
            another program may do that.
    """

    def __init__(self, database: Path) -> None:
        """Notes the identities of the files, which must exist."""
        suffixes = ("", "-wal", ".lock")
        self._database = str(database)
        self._files = {path: identity_of(path) for path in (f"{database}{end}" for end in suffixes)}
        self._sizes: dict[str, int] = {}
        self.shrunk: dict[str, int] = {}

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
                status = os.stat(path)  # noqa: PTH116 - before each COMMIT, and pathlib takes five times as long
            except FileNotFoundError:
                return f"{path} was deleted, renamed or unmounted"
            except OSError as error:
                return f"{path} cannot be read: {error.strerror}"
            if (status.st_dev, status.st_ino) != identity:
                return f"{path} was replaced by another file"
            if status.st_size < self._sizes.get(path, 0):
                self.shrunk[path] = status.st_size
            self._sizes[path] = status.st_size
        return ""


async def find_truncation(connection: ConnectionThread, shrunk: Sequence[str]) -> str:
    """Which of the files that have become smaller was cut off, in a sentence; "" if none was.

    After a checkpoint, a file still has all that SQLite knows to be in it. A file that grows
    meanwhile is no problem; after one that another checkpoint cuts, ask again.
    """
    ((page_size,),) = await connection.fetch_all("PRAGMA page_size")
    ((pages,),) = await connection.fetch_all("PRAGMA page_count")
    for path in shrunk:
        if not path.endswith("-wal"):
            needed = pages * page_size
        else:
            ((_, frames, _),) = await connection.fetch_all("PRAGMA wal_checkpoint(PASSIVE)")
            needed = _LOG_HEAD + frames * (page_size + _FRAME_HEAD) if frames > 0 else 0
        if os.stat(path).st_size < needed:  # noqa: PTH116 - as `identity_of`
            return f"{path} was cut off"
    return ""


def identity_of(path: str) -> Identity:
    """The file that a name refers to now. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116 - before each COMMIT, and pathlib takes five times as long
    return status.st_dev, status.st_ino
