"""Which request headers a submitter may set."""

import pytest

from waitd.core.errors import Problem
from waitd.core.http.headers import (
    DEFAULT_RATE_LIMIT_PAUSE,
    FRAMING_HEADERS,
    LONGEST_RETRY_AFTER,
    MAX_HEADERS,
    header_problems,
    parse_rate_limit,
)

PATTERNS = ("authorization", "x-api-key", "*-token", "*-secret")


def test_ordinary_headers_are_allowed() -> None:
    headers = {
        "Accept": "application/json",
        "X-Team": "Grüße\tan alle",
        "traceparent": "00-ab-cd-01",
        "X-Tokens": "3",
    }
    assert header_problems(headers, PATTERNS) == []


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "AUTHORIZATION",
        "x-api-key",
        "X_Api_Key",
        "Private-Token",
        "private_token",
        "a-secret",
    ],
)
def test_a_secret_header_is_refused_and_not_quoted(name: str) -> None:
    [problem] = header_problems({name: "planted"}, PATTERNS)
    assert problem.pointer == "/" + name
    assert "conn_id" in problem.detail
    assert "planted" not in problem.detail


def test_the_patterns_decide_which_headers_are_secret() -> None:
    assert header_problems({"Authorization": "x"}, ()) == []
    assert [problem.pointer for problem in header_problems({"X-Pin": "x"}, ("X-P*",))] == ["/X-Pin"]


@pytest.mark.parametrize("name", sorted(FRAMING_HEADERS))
def test_a_framing_header_is_refused(name: str) -> None:
    [problem] = header_problems({name.title(): "x"}, ())
    assert "set by the HTTP client" in problem.detail


@pytest.mark.parametrize(
    "name", ["", " ", "X A", "X:A", "X\r\nA", "X\x00", "Ünicode", "X\ud800", "(x)", "a,b"]
)
def test_an_invalid_name_is_refused(name: str) -> None:
    [problem] = header_problems({name: "x"}, ())
    assert "header name" in problem.detail


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\n", "\x00", "\x7f", "\x85", "\u2028", "\ud800"])
def test_a_value_with_control_characters_is_refused(value: str) -> None:
    assert header_problems({"X": value}, ()) == [
        Problem("/X", "control characters are not allowed in a header")
    ]


def test_pointers_are_escaped() -> None:
    assert [problem.pointer for problem in header_problems({"a/b~c": "x"}, ())] == ["/a~1b~0c"]


def test_all_problems_are_reported_together() -> None:
    headers = {"Host": "x", "Authorization": "x", "X": "ok"}
    assert [problem.pointer for problem in header_problems(headers, PATTERNS)] == ["/Host", "/Authorization"]


def test_the_number_of_headers_is_limited() -> None:
    assert header_problems({f"X-{i}": "" for i in range(MAX_HEADERS)}, ()) == []
    assert [
        problem.pointer for problem in header_problems({f"X-{i}": "" for i in range(MAX_HEADERS + 1)}, ())
    ] == [""]


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000090"}, 90.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1600000000"}, 0.0),
        ({"X-RateLimit-Remaining": "0.0", "X-RateLimit-Reset": "1700000090000"}, 90.0),
        ({"RateLimit-Remaining": "-1", "RateLimit-Reset": "5"}, 5.0),
        ({"X-Rate-Limit-Remaining": " 0 ", "X-Rate-Limit-Reset": "2.5"}, 2.5),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "soon"}, DEFAULT_RATE_LIMIT_PAUSE),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "999999999"}, LONGEST_RETRY_AFTER),
        ({"RateLimit": '"a";r=5;t=1, "b";r=0;t=7'}, 7.0),
        ({"RateLimit": '"a";r=05'}, None),
        ({"RateLimit-Remaining": "1", "RateLimit-Reset": "9"}, None),
        ({}, None),
    ],
)
def test_an_exhausted_rate_limit_says_when_it_ends(headers: dict[str, str], pause: float | None) -> None:
    assert parse_rate_limit(headers, 1_700_000_000.0) == pause
