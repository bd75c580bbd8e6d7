"""Placeholders in the parameters of a wait that submits its job itself: what only the submitting call tells, put where it belongs.

They stand in `endpoint`, `request_params` and `json`. Nowhere else: in a condition they would be code, in a header or in `data` nobody
could say how to quote them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from waitd.core.connections.connection import encode_segment
from waitd.core.errors import Problem
from waitd.core.waits.submission import JobHandle
from waitd.models import pointer

KEY = "idempotency_key"
_PLACEHOLDER = re.compile(r"\{(idempotency_key|handle(?:\.([A-Za-z_][A-Za-z0-9_]*))?)\}")
#: Where they may stand, and where they are looked for because somebody may think so.
FIELDS = ("endpoint", "request_params", "json")
_WRONG_FIELDS = ("data", "headers", "success_when", "failure_when", "message", "result")
#: An endpoint that is nothing but the handle is a URL.
_LOCATION = re.compile(r"\{handle(?:\.([A-Za-z_][A-Za-z0-9_]*))?\}")


def has_placeholder(value: Any) -> bool:
    """Whether there is one in text, or in anything that JSON can be."""
    return next(_found(value), None) is not None


def placeholder_names(params: Mapping[str, Any]) -> frozenset[str]:
    """The placeholders in parameters of kind `http`, without braces: `idempotency_key`, `handle`, `handle.NAME`."""
    return frozenset(name for field in FIELDS for name in _found(params.get(field)))


def misplaced_placeholders(params: Mapping[str, Any]) -> Iterator[Problem]:
    """Placeholders of parameters that stand where they are not filled."""
    for field in _WRONG_FIELDS:
        if has_placeholder(params.get(field)):
            yield Problem(pointer([field]), f"placeholders stand in {', '.join(FIELDS)} only")


def location_part(params: Mapping[str, Any]) -> str | None:
    """Which part of the handle is a URL, because it is the whole endpoint: "" the handle itself, else a name; None: no part is."""
    endpoint = params.get("endpoint")
    found = _LOCATION.fullmatch(endpoint) if isinstance(endpoint, str) else None
    return None if found is None else found[1] or ""


def fill(params: Mapping[str, Any], key: str, handle: JobHandle | None = None) -> dict[str, Any]:
    """Parameters of kind `http` with their placeholders filled.

    Raises:
        ValueError: the handle has no such value, or it cannot be a path segment.
    """
    values = _Values(key, handle)
    done = dict(params)
    endpoint = params.get("endpoint")
    if isinstance(endpoint, str):
        whole = _LOCATION.fullmatch(endpoint)
        done["endpoint"] = (
            str(values.get(whole[0][1:-1]))
            if whole
            else _PLACEHOLDER.sub(lambda found: encode_segment(str(values.get(found[1]))), endpoint)
        )
    for field in FIELDS[1:]:
        if field in params:
            done[field] = _filled(params[field], values)
    return done


class _Values:
    def __init__(self, key: str, handle: JobHandle | None) -> None:
        self._key = key
        self._handle = handle

    def get(self, name: str) -> Any:
        if name == KEY:
            return self._key
        _, _, part = name.partition(".")
        handle = self._handle
        if not part:
            if handle is None or isinstance(handle, Mapping):
                raise ValueError("the handle is a map: write {handle.NAME}")
            return handle
        if not isinstance(handle, Mapping) or part not in handle:
            raise ValueError(f"the handle has no value {part}")
        return handle[part]


def _filled(value: Any, values: _Values) -> Any:
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        return (
            values.get(whole[1])
            if whole
            else _PLACEHOLDER.sub(lambda found: str(values.get(found[1])), value)
        )
    if isinstance(value, Mapping):
        return {name: _filled(item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return value


def _found(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (found[1] for found in _PLACEHOLDER.finditer(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _found(item)
    elif isinstance(value, list):
        for item in value:
            yield from _found(item)
