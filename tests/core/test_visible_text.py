"""No text of a target controls a terminal."""

import json
import unicodedata

import pytest

from waitd.core.visible_text import visible, visible_json, visible_lines, visible_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\u2066x\u2069\u200b\u2028\ufeff", "\\u2066x\\u2069\\u200b\\u2028\\ufeff"),
        ("\U000e0041\ud800", "\\U000e0041\\ud800"),
        ("\u3164\u034f\U000e0100", "\\u3164\\u034f\\U000e0100"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("größe 日本 🚀 \\x1b", "größe 日本 🚀 \\x1b"),
    ],
)
def test_what_a_terminal_obeys_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert visible_values({text: [text, 1, None]}) == {shown: [shown, 1, None]}


def test_lines_are_kept() -> None:
    assert visible_lines("a\n\x1bb\r\n") == "a\n\\x1bb\\r\n"


def test_json_stays_the_same_value() -> None:
    value = {"\u202e": "\x1b\x7f\x9b\u2028\U000e0041 日本 🚀"}
    document = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert visible(document) == document


def test_every_control_and_format_character_is_covered() -> None:
    shown = visible("".join(map(chr, range(0x110000))))
    kept = {each for each in shown if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    # Signs over numbers, of Egyptian, of shorthand and of music: they are seen.
    scripts = (
        (0x600, 0x605),
        (0x6DD, 0x6DD),
        (0x70F, 0x70F),
        (0x890, 0x891),
        (0x8E2, 0x8E2),
        (0x110BD, 0x110CD),
        (0x13430, 0x1343F),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
    )
    assert [hex(ord(each)) for each in kept if not any(a <= ord(each) <= b for a, b in scripts)] == []
