"""Placeholders in the parameters of a wait that submits its job, and the values that replace them.

They are replaced in `endpoint`, `request_params` and `json`. Elsewhere they are refused: in a
condition they would be code, and in a header or in `data` it is unknown how to quote them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from waitd.core.connections.connection import encode_segment
from waitd.core.errors import Problem
from waitd.core.waits.submission import JobHandle
from waitd.models import pointer

KEY = "idempotency_key"
_PLACEHOLDER = re.compile(r"\{(idempotency_key|handle(?:\.([A-Za-z_][A-Za-z0-9_]*))?)\}")
#: An endpoint that is only a handle: the handle is a URL.
_HANDLE = re.compile(r"\{handle(?:\.([A-Za-z_][A-Za-z0-9_]*))?\}")
#: The fields in which placeholders are replaced, and those in which they are refused.
FIELDS = ("endpoint", "request_params", "json")
_REFUSED_FIELDS = ("data", "headers", "success_when", "failure_when", "message", "result")


def has_placeholder(value: Any) -> bool:
    """Whether a JSON value contains a placeholder."""
    return any(_PLACEHOLDER.search(text) for text in texts_in(value))


def placeholder_names(params: Mapping[str, Any]) -> frozenset[str]:
    """Returns the placeholders in `http` parameters: `idempotency_key`, `handle`, `handle.NAME`."""
    texts = texts_in([params.get(field) for field in FIELDS])
    return frozenset(match[1] for text in texts for match in _PLACEHOLDER.finditer(text))


def misplaced_placeholders(params: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields a problem for each field whose placeholders would not be replaced."""
    for field in _REFUSED_FIELDS:
        if has_placeholder(params.get(field)):
            yield Problem(pointer([field]), f"placeholders are replaced in {', '.join(FIELDS)} only")


def location_part(params: Mapping[str, Any]) -> str | None:
    """Returns the part of the handle that is the whole endpoint, and so a URL.

    It is "" for the handle itself, else a name in it; None if no part is.
    """
    endpoint = params.get("endpoint")
    match = _HANDLE.fullmatch(endpoint) if isinstance(endpoint, str) else None
    return None if match is None else match[1] or ""


def fill(params: Mapping[str, Any], key: str, handle: JobHandle | None = None) -> dict[str, Any]:
    """Returns `http` parameters with their placeholders replaced.

    Raises:
        ValueError: the handle has no such value, or it cannot be a path segment.
    """
    value_of = partial(_value_of, key=key, handle=handle)
    filled = dict(params)
    for field in FIELDS[1:]:
        if field in params:
            filled[field] = _fill_value(params[field], value_of)
    endpoint = params.get("endpoint")
    if isinstance(endpoint, str):
        handle_only = _HANDLE.fullmatch(endpoint)
        filled["endpoint"] = (
            str(value_of(handle_only[0][1:-1]))
            if handle_only
            else _PLACEHOLDER.sub(lambda match: encode_segment(str(value_of(match[1]))), endpoint)
        )
    return filled


def _value_of(name: str, *, key: str, handle: JobHandle | None) -> Any:
    """Returns the value of a placeholder."""
    if name == KEY:
        return key
    part = name.partition(".")[2]
    if not part and (handle is None or isinstance(handle, Mapping)):
        raise ValueError("the handle is a map: write {handle.NAME}")
    if not part:
        return handle
    if not isinstance(handle, Mapping) or part not in handle:
        raise ValueError(f"the handle has no value {part}")
    return handle[part]


def _fill_value(value: Any, value_of: Callable[[str], Any]) -> Any:
    if isinstance(value, str):
        placeholder_only = _PLACEHOLDER.fullmatch(value)
        if placeholder_only:
            return value_of(placeholder_only[1])
        return _PLACEHOLDER.sub(lambda match: str(value_of(match[1])), value)
    if isinstance(value, Mapping):
        return {name: _fill_value(item, value_of) for name, item in value.items()}
    if isinstance(value, list):
        return [_fill_value(item, value_of) for item in value]
    return value


def texts_in(value: Any) -> Iterator[str]:
    """Yields all strings in a JSON value, apart from names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_in([*value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)
