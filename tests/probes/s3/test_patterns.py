"""Patterns mean what they mean to `fnmatch` and `re`, and every match has their prefix."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waitd.probes.s3.patterns import regex, wildcard

PIECES = ["*", "**", "?", "[", "]", "[!", "[]", "[!]", "a", "b", "-", "a-z", "z-a", "/", ".", "\\", "\n", "ü", "^", "&&", "\U0001f600"]  # fmt: skip
WILDCARD = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
KEY = st.text("abcz-]![/.\\\nü^&\U0001f600", max_size=6)


@given(WILDCARD, KEY)
@example("[]a]", "]")
@example("[!]a]", "b")
@example("[z-a]", "z")
@example("[!z-a]", "z")
@example("[a-c-e]", "d")
@example("[--a]", ".")
def test_a_wildcard_means_what_it_means_to_fnmatch(pattern: str, key: str) -> None:
    assert wildcard(pattern).matches(key) == fnmatchcase(key, pattern)


@given(WILDCARD, KEY)
def test_every_match_of_a_wildcard_has_its_prefix(pattern: str, key: str) -> None:
    compiled = wildcard(pattern)
    assert not compiled.matches(key) or key.startswith(compiled.prefix)


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("data/2024-*.csv", "data/2024-"),
        ("data/ü?", "data/ü"),
        ("*", ""),
        ("a[bc]", "a"),
        ("a[b", "a[b"),
        ("plain", "plain"),
    ],
)
def test_the_prefix_of_a_wildcard_is_its_literal_beginning(pattern: str, prefix: str) -> None:
    assert wildcard(pattern).prefix == prefix


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        (r"data/2024-\d+\.csv", "data/2024-"),
        (r"^data/part-(a|b)", "data/part-"),
        (r"(?i)data", ""),
        (r"(a|b)c", ""),
        (r"données/é|données/è", "données/"),
        (r".*x", ""),
        (r"a{3}b?", "aaa"),
    ],
)
def test_the_prefix_of_a_regex_is_common_to_all_its_matches(pattern: str, prefix: str) -> None:
    assert regex(pattern).prefix == prefix


@pytest.mark.parametrize(
    "pattern",
    [r"a.c", r"^ab", r"b", r"a+$", r"\w+/\d", r"[^/]*x", r"(?s).b", r"é\b", r"\.", r"(a|ab)(c|bcd)"],
)
@pytest.mark.parametrize("key", ["abc", "ab", "b", "aaa", "ab/3", "/x", "\nb", "é é", ".a", "abcd"])
def test_a_regex_means_what_it_means_to_re_match(pattern: str, key: str) -> None:
    compiled = regex(pattern)
    # RE2's \b and \w are ASCII.
    assert compiled.matches(key) == (re.compile(pattern, re.ASCII).match(key) is not None)
    assert not compiled.matches(key) or key.startswith(compiled.prefix)


@pytest.mark.parametrize("pattern", [r"(?=a)", r"(a)\1", r"(?<=a)b", "(", "[", "a)", "*", "a{2000}", r"\Z"])
def test_a_pattern_that_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="the pattern is not valid in RE2"):
        regex(pattern)


def test_a_pattern_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        regex("(a|b|cd){900}(x|y){900}")
