"""Connections in one TOML or YAML file, as in Airflow's local file backend.

The file maps each conn_id to a table of fields or to one string.
"""

import asyncio
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from waitd.connections.airflow_formats import parse_stored
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection


class _FileVersion(NamedTuple):
    """Differs after each change. A mounted secret is a symbolic link, so its inode changes."""

    inode: int
    modified_ns: int
    size: int


class FileResolver:
    """Looks a conn_id up in a file, which is read again after each change."""

    backend = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: _FileVersion | None = None
        self._values: Mapping[str, Any] = {}

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the file describes.

        Raises:
            UnknownConnection: the file has no such connection.
            ConnectionUnavailable: the file or this entry cannot be read or parsed.
        """
        try:
            await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            why = error if isinstance(error, _UnreadableError) else type(error).__name__
            raise ConnectionUnavailable(f"the connections file {self._path} cannot be read: {why}") from None
        if conn_id not in self._values:
            raise UnknownConnection(f"there is no connection {conn_id} in {self._path}")
        return parse_stored(conn_id, self._values[conn_id], f"{conn_id} in {self._path}")

    def _read(self) -> None:
        """Blocks."""
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            version = _FileVersion(status.st_ino, status.st_mtime_ns, status.st_size)
            if version == self._version:
                return
            text = file.read().decode()
        self._values = _parse(text, self._path.suffix.lower())
        self._version = version


class _UnreadableError(ValueError):
    """Why the file cannot be parsed; quotes nothing of it."""


def _parse(text: str, suffix: str) -> Mapping[str, Any]:
    values = _yaml(text) if suffix in {".yaml", ".yml"} else _toml(text)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise _UnreadableError("it is not a table of connections")
    return values


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        pass
    raise _UnreadableError("it is not valid TOML")  # outside the handler: the first error may quote the text


def _yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise _UnreadableError(
            "YAML needs a library that is not installed: pip install 'waitd[yaml]'"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError:
        pass
    raise _UnreadableError("it is not valid YAML")
