"""Repeated fields of JSON objects: each is found, in time that grows with the text only."""

import time

import pytest

from waitd.core.repeated_fields import may_repeat, repeated_fields


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('{"a": 1, "a": 2}', [("a",)]),
        ('{"a": {"b": [{"c": 1, "c": 1}]}}', [("a", "b", 0, "c")]),
        ('{"a": {"b": 1, "b": 2}, "a": {"b": 3}}', [("a",)]),
        ('{"a": 1, "\\u0061": 2}', [("a",)]),
        ('{"a\\u003a": 1, "a:": 2}', [("a:",)]),
        ('{"": 1, "": 2}', [("",)]),
        ('[{"a": 1}, {"a": 1}]', []),
        ('{"a": "a", "A": 1, "\u00e9": 1, "e\u0301": 1}', []),
        ("[" * 5000 + "]" * 5000, []),
    ],
)
def test_each_repeated_field_is_found(text: str, paths: list[tuple[str | int, ...]]) -> None:
    assert list(repeated_fields(text.encode())) == paths


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":":","a":1}', '{"a":1,"\\u0061":2}', '{"a":{"b":1,"b":1}}']
)
def test_text_with_repeated_fields_is_examined(text: str) -> None:
    assert may_repeat(text.encode(), b'{"a":1}')


def test_the_time_grows_with_the_text_only() -> None:
    def seconds(fields: int) -> float:
        text = ("{" + '"a":1,' + ",".join(f'"{number}":1' for number in range(fields)) + ',"a":1}').encode()
        started = time.thread_time()
        assert list(repeated_fields(text)) == [("a",)]
        return time.thread_time() - started

    few, many = (min(seconds(fields) for _ in range(5)) for fields in (1000, 16_000))
    assert many < 64 * few  # 16 times the text; each field was once compared with every other
