"""Connections in one TOML, YAML or JSON file, as in Airflow's local file backend.

The file maps each conn_id to a table of fields or to one string, as `airflow connections export`
writes it in YAML and in JSON. A file that breaks later leaves the connections as they were.
"""

import asyncio
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from waitd.connections.airflow_formats import parse_stored
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection

log = structlog.get_logger(__name__)

_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


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
        self._values: Mapping[str, Any] | None = None
        #: Why the file cannot be read now, so that its last content counts; "" if it can.
        self.trouble = ""

    async def load(self) -> None:
        """Reads the file.

        Raises:
            ConnectionUnavailable: it cannot be read or parsed. The message names file and line.
        """
        try:
            await asyncio.to_thread(self._read)
        except (OSError, ValueError, RecursionError) as error:
            why = error if isinstance(error, _UnreadableError) else type(error).__name__
            raise ConnectionUnavailable(f"the connections file {self._path} cannot be read: {why}") from None

    def mistakes(self) -> list[str]:
        """What is wrong with single entries of the file as it was loaded; quotes no value."""
        return [mistake for conn_id in self._values or {} if (mistake := self._mistake(conn_id))]

    def _mistake(self, conn_id: str) -> str | None:
        try:
            self._parse_entry(conn_id)
        except ConnectionUnavailable as error:
            return str(error)
        return None

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the file describes.

        Raises:
            UnknownConnection: the file has no such connection.
            ConnectionUnavailable: the file could never be read, or this entry cannot be parsed.
        """
        try:
            await self.load()
        except ConnectionUnavailable as error:
            if self._values is None:
                raise
            self._note(str(error))
        else:
            self._note("")
        values = self._values or {}
        if conn_id not in values:
            raise UnknownConnection(f"there is no connection {conn_id} in {self._path}")
        return self._parse_entry(conn_id)

    def _parse_entry(self, conn_id: str) -> Connection:
        """Raises ConnectionUnavailable."""
        value = (self._values or {})[conn_id]
        return parse_stored(conn_id, _without_id(value), f"{conn_id} in {self._path}")

    def _note(self, trouble: str) -> None:
        """Notes trouble, and logs it once."""
        if trouble and trouble != self.trouble:
            log.error(
                "connections_file_unreadable", error=trouble, consequence="its last content stays in use"
            )
        self.trouble = trouble

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


def _without_id(value: Any) -> Any:
    """An entry without its own `conn_id`, which is its key, too."""
    if isinstance(value, Mapping):
        return {name: field for name, field in value.items() if name != "conn_id"}
    return value


def _parse(text: str, suffix: str) -> Mapping[str, Any]:
    values = PARSERS.get(suffix, _toml)(text)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise _UnreadableError("it is not a table of connections")
    return values


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = _TOML_LINE.search(str(error))
    line = where[1] if where else len(text.splitlines())
    # outside the handler: the first error may quote the text
    raise _UnreadableError(f"line {line} is not valid TOML")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = error.lineno
    except RecursionError:
        line = 1
    raise _UnreadableError(f"line {line} is not valid JSON")


def _yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise _UnreadableError(
            "YAML needs a library that is not installed: pip install 'waitd[yaml]'"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
    except yaml.YAMLError:
        line = text.count("\n", 0, _unprintable(text)) + 1
    raise _UnreadableError(f"line {line} is not valid YAML")


def _unprintable(text: str) -> int:
    """Where the first character is that YAML does not allow."""
    return next((at for at, each in enumerate(text) if not (each.isprintable() or each.isspace())), 0)


PARSERS: Mapping[str, Callable[[str], Any]] = {".yaml": _yaml, ".yml": _yaml, ".json": _json}
