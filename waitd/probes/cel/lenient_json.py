"""Reads bodies that orjson refuses, as a lenient reader does.

It knows byte order marks and charsets, NaN and infinities, halves of surrogate pairs, and control
characters in strings. Workers import this module, so it imports no client.
"""

import codecs
import json
import re
from math import isfinite
from typing import Any

from waitd.core.connections.masking import SecretMask
from waitd.probes.cel.expressions import replace_json_nul, replace_nul

#: Python codecs that are not charsets of HTTP bodies, or are slow on crafted input.
_UNUSABLE_CODECS = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "unicode_escape", "utf-7", "undefined", "mbcs", "oem"}
)
#: The longer marks come first: that of UTF-32 begins like that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: An escape in a string: a surrogate pair, half of one, or any other.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = len(r"\ud83d")
#: The longest integer that is read as one, in digits; a longer one is a float. Readers of JSON
#: whose numbers are doubles still accept it.
_MAX_DIGITS = 300


def text_codec(content: bytes, charset: str | None) -> str:
    """Returns the codec of a text: that of its byte order mark, or its charset, or UTF-8."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return codec
    if charset is None:
        return "utf-8"
    try:
        name = codecs.lookup(charset).name
        "".encode(name)  # refuses codecs that do not produce text
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _UNUSABLE_CODECS else name


def parse_leniently(
    content: bytes, charset: str | None, mask: SecretMask | None, *, exact: bool
) -> tuple[Any, bool]:
    """Returns the JSON value of a body, masked, and whether it is JSON at all.

    Args:
        content: the body.
        charset: the charset that the header names.
        mask: masks secrets.
        exact: for a payload: integers are exact, and what JSON cannot hold is null. Conditions see
            integers over 64 bits as floats, as CEL does, and NaN and infinities as such.
    """
    codec: str = json.detect_encoding(content)
    if codec == "utf-8":
        codec = text_codec(content, charset)
    encoded = content.decode(codec, "replace").encode()
    if mask is not None:
        encoded = mask.mask_bytes(encoded)
    text = replace_nul(replace_json_nul(encoded).decode())
    if _SURROGATE.search(text):
        text = _ESCAPE.sub(_whole_escape, text)
    try:
        return (_EXACT if exact else _LENIENT).decode(text), True
    except (ValueError, RecursionError):
        return None, False


def _whole_escape(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == _HALF else escape[0]


def _integer(digits: str) -> int | float:
    value = int(digits) if len(digits) <= _MAX_DIGITS else float(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(digits)


def _exact_integer(digits: str) -> int | float | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else _finite(digits)


def _finite(number: str) -> float | None:
    value = float(number)
    return value if isfinite(value) else None


_LENIENT = json.JSONDecoder(strict=False, parse_int=_integer)
_EXACT = json.JSONDecoder(
    strict=False, parse_int=_exact_integer, parse_float=_finite, parse_constant=lambda _: None
)
