"""Finds fields that JSON text gives more than once in one object; decoders keep the last one."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

#: Bytes are searched for an integer at a third of the cost of a search for bytes.
_BACKSLASH = ord("\\")


class _Repeating(dict[str, Any]):
    """An object with repeated fields."""

    repeated: list[str]


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(fields)
    if len(unique) == len(fields):
        return unique
    counts = Counter(name for name, _ in fields)
    repeating = _Repeating(unique)
    repeating.repeated = [name for name, count in counts.items() if count > 1][:32]
    return repeating


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=len, parse_float=len)


def repeated_fields(text: bytes) -> Iterator[tuple[str | int, ...]]:
    """Yields the path of each repeated field of valid JSON text, at any depth.

    Yields nothing for text that nests too deeply to be decoded.
    """
    try:
        rest: list[tuple[tuple[str | int, ...], Any]] = [((), _DECODER.decode(text.decode()))]
    except (ValueError, RecursionError):
        return
    while rest:
        path, value = rest.pop()
        if isinstance(value, _Repeating):
            yield from ((*path, name) for name in value.repeated)
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            rest += [((*path, key), item) for key, item in items]


def may_repeat(text: bytes, encoded: bytes, missing: int = 0) -> bool:
    """Whether fields of `text` may be repeated, given its decoded value, `encoded` again.

    `missing`: how many fields were not encoded; their values have no fields.

    Both have the same strings unless a character is written as its code, so they have as many
    colons, unless a decoder has dropped fields.
    """
    return text.count(b":") != encoded.count(b":") + missing or (_BACKSLASH in text and b"\\u" in text)
