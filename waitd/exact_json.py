"""JSON with integers of over 64 bits, which orjson reads as floats and refuses to write."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

#: What a number that orjson does not read exactly has.
_MANY_DIGITS = re.compile(rb"[0-9]{19}")


def may_have_long_integers(raw: bytes) -> bool:
    """Whether JSON may have integers of over 64 bits."""
    return _MANY_DIGITS.search(raw) is not None


def loads(raw: bytes) -> Any:
    """Returns the value of JSON.

    Raises:
        ValueError: it is not JSON.
    """
    value = orjson.loads(raw)
    if not may_have_long_integers(raw):
        return value
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("it is not JSON") from error


def dumps(value: Any, default: Callable[[Any], Any] | None = None, *, option: int | None = None) -> bytes:
    """Returns a value as JSON; `default` and `option` are those of orjson.

    Raises:
        TypeError: the value is not valid JSON.
    """
    try:
        return orjson.dumps(value, default, option=option)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
    try:
        return msgspec.json.encode(value, enc_hook=default)
    except (ValueError, RecursionError) as error:
        raise TypeError("the value is not valid JSON") from error
