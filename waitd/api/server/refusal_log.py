"""Logs refused calls at most once a second for each caller and reason, with their number."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

#: For how many seconds refusals are counted before they are logged again.
SECONDS = 1.0
#: The most callers and reasons that are counted separately; the others share a line.
MAX_KEYS = 1000
_OTHERS = "(others)"

Write = Callable[..., Any]


class _Line(NamedTuple):
    write: Write
    event: str
    fields: dict[str, Any]


class RefusalLog:
    """The first refusal is logged at once; those of the next second together at its end."""

    def __init__(self) -> None:
        self._unlogged: dict[Hashable, int] = {}

    def log(self, key: Hashable, write: Write, event: str, **fields: Any) -> None:
        """Logs a refusal with `write`, or counts it. `key`: the caller and the reason."""
        if key not in self._unlogged and len(self._unlogged) >= MAX_KEYS:
            key = _OTHERS
        if key in self._unlogged:
            self._unlogged[key] += 1
            return
        write(event, count=1, **fields)
        self._start(key, _Line(write, event, fields))

    def _start(self, key: Hashable, line: _Line) -> None:
        self._unlogged[key] = 0
        asyncio.get_running_loop().call_later(SECONDS, self._flush, key, line)

    def _flush(self, key: Hashable, line: _Line) -> None:
        count = self._unlogged.pop(key)
        if count:
            line.write(line.event, count=count, **line.fields)
            self._start(key, line)
