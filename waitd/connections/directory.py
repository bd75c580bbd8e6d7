"""Connections in a directory of secrets, as Kubernetes mounts one: a file by the name of each conn_id, holding a URI or JSON.

Each look-up opens its file anew, so that the new one is read once Kubernetes has led `..data` elsewhere.
"""

import asyncio
import re
from pathlib import Path

from waitd.connections.airflow_forms import parse_connection
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection

#: The keys of a Kubernetes secret; and nothing that leads out of the directory, nor to what Kubernetes itself keeps there.
_FILE_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,250}")
#: The longest value that is read, in bytes; a Kubernetes secret has no more.
_MAX_VALUE = 1024 * 1024


class DirectoryResolver:
    """Looks a conn_id up in a directory."""

    backend = "directory"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the file describes.

        Raises:
            UnknownConnection: there is no such file in the directory.
            ConnectionUnavailable: there is no directory, or the file cannot be read.
        """
        if not _FILE_NAME.fullmatch(conn_id):
            raise UnknownConnection(f"there is no connection {conn_id}: it cannot be the name of a secret")
        file = self._path / conn_id
        try:
            value = await asyncio.to_thread(_read, file)
        except FileNotFoundError:
            if await asyncio.to_thread(self._path.is_dir):
                raise UnknownConnection(f"there is no connection {conn_id} in {self._path}") from None
            raise ConnectionUnavailable(f"there is no directory {self._path}") from None
        except (OSError, ValueError) as error:
            raise ConnectionUnavailable(f"{file} cannot be read: {type(error).__name__}") from None
        try:
            return parse_connection(conn_id, value)
        except ValueError as error:
            raise ConnectionUnavailable(f"{file} cannot be read: {error}") from None


def _read(file: Path) -> str:
    """Blocks."""
    with file.open("rb") as opened:
        return opened.read(_MAX_VALUE).decode()
