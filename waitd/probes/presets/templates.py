"""Fills the placeholders of a preset's requests: `{name}` is a parameter.

A string that is only a placeholder becomes the parameter's value, of any type; in a longer string
it becomes text. An entry of a query or of headers, a field or an element of JSON is left out when
its parameter is missing. In a path a parameter is one segment, percent-encoded; `{+name}` is a
whole endpoint, unchanged. `{null}` is JSON's null, which TOML lacks.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from waitd.core.connections.connection import encode_segment
from waitd.probes.submit.placeholders import texts_in

NULL = "null"
_PLACEHOLDER = re.compile(r"\{(\+?[a-z][a-z0-9_]*)\}")
#: A field whose parameter is missing.
_ABSENT: Any = object()


def placeholders(template: Any) -> Iterator[str]:
    """Yields the names in a template; the name of a whole endpoint begins with `+`."""
    for text in texts_in(template):
        yield from (name for name in _PLACEHOLDER.findall(text) if name != NULL)


def fill_template(template: Any, params: Mapping[str, Any]) -> Any:
    """Fills a JSON template; None when nothing is left of it."""
    value = _fill(template, params)
    return None if value is _ABSENT else value


def _fill(template: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return _fill_text(template, params)
    if isinstance(template, Mapping):
        fields = ((name, _fill(value, params)) for name, value in template.items())
        return {name: value for name, value in fields if value is not _ABSENT}
    if isinstance(template, list):
        elements = (_fill(value, params) for value in template)
        return [value for value in elements if value is not _ABSENT]
    return template


def _fill_text(template: str, params: Mapping[str, Any]) -> Any:
    placeholder_only = _PLACEHOLDER.fullmatch(template)
    if placeholder_only is not None and placeholder_only[1] == NULL:
        return None
    if placeholder_only is not None:
        value = params.get(placeholder_only[1])
        return _ABSENT if value is None else value
    if any(params.get(name) is None for name in _PLACEHOLDER.findall(template)):
        return _ABSENT
    return _PLACEHOLDER.sub(lambda match: as_text(params[match[1]]), template)


def fill_texts(template: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, str]:
    """Fills a query or headers."""
    return {name: as_text(value) for name, value in fill_template(template, params).items()}


def fill_path(path: str, params: Mapping[str, Any], encode: Callable[[str], str] = encode_segment) -> str:
    """Fills a path.

    Raises:
        ValueError: a value cannot be a path segment.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1].removeprefix("+")
        value = params[name]
        text = value if isinstance(value, str) else as_text(value)
        return text if name != match[1] else encode(text)

    return _PLACEHOLDER.sub(replace, path)


def append_query(endpoint: str, query: Mapping[str, str]) -> str:
    """Appends a query to an endpoint."""
    return f"{endpoint}?{urlencode(query)}" if query else endpoint


def as_text(value: Any) -> str:
    """Formats a parameter in a longer text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
