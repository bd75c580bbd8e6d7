"""The placeholders of a preset's requests: `{name}` is a parameter.

A string that is nothing but a placeholder becomes the parameter's value, whatever its type; inside a longer string it becomes text. What
names a parameter that is not given is left out: an entry of a query or of headers, a field or an element of a JSON body. In a path a
parameter is one segment, percent-encoded; `{+name}` stands for a whole endpoint as it is. `{null}` is JSON's null, which TOML has not.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from waitd.core.connections.connection import encode_segment

NULL = "null"
_PLACEHOLDER = re.compile(r"\{(\+?[a-z][a-z0-9_]*)\}")
#: A field whose parameter is not given.
_ABSENT: Any = object()


def placeholders(template: Any) -> Iterator[str]:
    """The names that a template mentions; that of a whole endpoint begins with `+`."""
    if isinstance(template, str):
        yield from (name for name in _PLACEHOLDER.findall(template) if name != NULL)
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, list):
        for value in template:
            yield from placeholders(value)


def fill_template(template: Any, params: Mapping[str, Any]) -> Any:
    """A template of JSON with its placeholders filled; None where nothing is left of it."""
    value = _filled(template, params)
    return None if value is _ABSENT else value


def _filled(template: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return _filled_text(template, params)
    if isinstance(template, Mapping):
        fields = ((name, _filled(value, params)) for name, value in template.items())
        return {name: value for name, value in fields if value is not _ABSENT}
    if isinstance(template, list):
        elements = (_filled(value, params) for value in template)
        return [value for value in elements if value is not _ABSENT]
    return template


def _filled_text(template: str, params: Mapping[str, Any]) -> Any:
    whole = _PLACEHOLDER.fullmatch(template)
    if whole is not None and whole[1] == NULL:
        return None
    if whole is not None:
        value = params.get(whole[1], _ABSENT)
        return _ABSENT if value is None else value
    if any(params.get(name) is None for name in _PLACEHOLDER.findall(template)):
        return _ABSENT
    return _PLACEHOLDER.sub(lambda found: as_text(params[found[1]]), template)


def fill_texts(template: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, str]:
    """A query, or headers, with their placeholders filled."""
    return {name: as_text(value) for name, value in fill_template(template, params).items()}


def fill_path(path: str, params: Mapping[str, Any], encode: Callable[[str], str] = encode_segment) -> str:
    """A path with its placeholders filled.

    Raises:
        ValueError: a value cannot be a path segment.
    """

    def put(found: re.Match[str]) -> str:
        name = found[1].removeprefix("+")
        value = params[name]
        text = value if isinstance(value, str) else as_text(value)
        return text if name != found[1] else encode(text)

    return _PLACEHOLDER.sub(put, path)


def append_query(endpoint: str, query: Mapping[str, str]) -> str:
    """An endpoint and its query."""
    return f"{endpoint}?{urlencode(query)}" if query else endpoint


def as_text(value: Any) -> str:
    """A parameter inside a longer text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
