"""Makes characters visible that a terminal would obey, or that would hide or reorder other text.

They are control characters (C0, DEL, C1, and with them escape sequences), bidirectional overrides
and isolates, zero-width characters, fillers, line separators, tags and surrogates. The variation
selectors of emoji stay.
"""

import re
from typing import Any

_UNSAFE = r"\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_IN_LINE = re.compile(f"[\x00-\x1f{_UNSAFE}]")
_IN_LINES = re.compile(f"[\x00-\x09\x0b-\x1f{_UNSAFE}]")
_IN_JSON = re.compile(f"[{_UNSAFE}]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""A text for one line of a terminal: `\x1b`, `\n`, `\u202e` stand for what they name."""
    return _IN_LINE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, whose line feeds are kept."""
    return _IN_LINES.sub(_escape, text)


def visible_values(value: Any) -> Any:
    """A JSON value with `visible` texts, the names of members among them."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple):
        return [visible_values(each) for each in value]
    if isinstance(value, dict):
        return {visible_values(name): visible_values(each) for name, each in value.items()}
    return value


def visible_json(document: str) -> str:
    """A JSON document, which stays equal: its own escapes stand for these characters.

    JSON escapes the control characters below the space itself.
    """
    return _IN_JSON.sub(_escape_json, document)


def _escape(match: re.Match[str]) -> str:
    character, code = match[0], ord(match[0])
    if character in _NAMES:
        return _NAMES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
