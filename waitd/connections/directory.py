"""Connections in a directory of secrets, as Kubernetes mounts one.

There is one file per conn_id, which holds a URI or JSON.

Each lookup reads its file again, so an update of the mounted secret takes effect at once.
"""

import asyncio
import re
from pathlib import Path

from waitd.connections.airflow_formats import parse_stored
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection

#: Keys of a Kubernetes secret. No leading dot: that excludes `..` and Kubernetes's own `..data`.
_FILE_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,250}")
#: The most bytes read of a file: the size limit of a Kubernetes secret.
_MAX_VALUE = 1024 * 1024


class DirectoryResolver:
    """Looks a conn_id up as a file name."""

    backend = "directory"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the file describes.

        Raises:
            UnknownConnection: the directory has no such file.
            ConnectionUnavailable: there is no directory, or the file cannot be read or parsed.
        """
        if not _FILE_NAME.fullmatch(conn_id):
            raise UnknownConnection(f"there is no connection {conn_id}: it is not a valid secret name")
        file = self._path / conn_id
        try:
            value = await asyncio.to_thread(_read, file)
        except FileNotFoundError:
            if await asyncio.to_thread(self._path.is_dir):
                raise UnknownConnection(f"there is no connection {conn_id} in {self._path}") from None
            raise ConnectionUnavailable(f"there is no directory {self._path}") from None
        except (OSError, ValueError) as error:
            raise ConnectionUnavailable(f"{file} cannot be read: {type(error).__name__}") from None
        return parse_stored(conn_id, value, str(file))


def _read(file: Path) -> str:
    """Blocks."""
    with file.open("rb") as opened:
        return opened.read(_MAX_VALUE).decode()
