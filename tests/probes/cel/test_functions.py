"""The functions of strings, lists and regular expressions that Kubernetes' CEL has."""

from types import SimpleNamespace
from typing import Any

import pytest
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.probes.cel.conditions import shared_conditions
from waitd.probes.cel.expressions import INLINE_COST, UNBOUNDED, ConditionSources, ErrorValue
from waitd.probes.cel.response import RESPONSE_ENV, ResponseVariables
from waitd.probes.cel.workers import run_in_worker

BODY = {"s": " Done ", "words": ["b", "a"], "n": [3, 1, 2], "mixed": [1, "a"], "nulls": [1, None]}
VARIABLES = SimpleNamespace(status=200, headers={}, body=BODY, text="job-12, job-345")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("body.s.lowerAscii()", " done "),
        ("'é'.upperAscii() + 'é'.lowerAscii()", "éé"),
        ("body.s.trim()", "Done"),
        ("text.split(', ')", ["job-12", "job-345"]),
        ("text.split(', ', 1)", ["job-12, job-345"]),
        ("body.words.join() + body.words.join('-')", "bab-a"),
        ("text.replace('job', 'x')", "x-12, x-345"),
        ("text.replace('job', 'x', 1)", "x-12, job-345"),
        ("text.substring(8) + text.substring(0, 3)", "job-345job"),
        ("text.indexOf('job', 1) - text.lastIndexOf('job')", 0),
        ("text.charAt(4)", "1"),
        ("'abc'.reverse()", "cba"),
        ("'%s is %d: %.1f'.format([body.s, 3, 1.25])", " Done  is 3: 1.2"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        ("body.n.isSorted()", False),
        ("['a', 'b'].isSorted() && [].isSorted()", True),
        ("body.n.sum() + [1.5, 2.5].sum()", "No matching overload"),
        ("body.n.sum()", 6),
        ("[].sum()", 0),
        ("body.n.min() + body.n.max()", 4),
        ("body.words.max()", "b"),
        ("text.find('[0-9]+')", "12"),
        ("text.find('zz')", ""),
        ("text.findAll('[0-9]+')", ["12", "345"]),
        ("text.findAll('job', 1) + text.findAll('job', 0)", ["job"]),
    ],
)
def test_the_functions_have_the_values_of_kubernetes(source: str, value: Any) -> None:
    evaluated = RESPONSE_ENV.compile(source).evaluate(VARIABLES)
    assert value in evaluated if isinstance(evaluated, ErrorValue) else evaluated == value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("[].min()", "of an empty list"),
        ("body.mixed.max()", "cannot be compared"),
        ("body.nulls.sum()", "not numbers"),
        ("body.nulls.isSorted()", "cannot be compared"),
        ("[9223372036854775807, 1].sum()", "64 bits"),
        ("text.find('(')", "not valid in RE2"),
        ("text.find('(.{0,30}){30}c')", "too large"),
        ("text.substring(99)", "greater than"),
    ],
)
def test_a_function_that_has_no_value_is_an_error(source: str, reason: str) -> None:
    value = RESPONSE_ENV.compile(source).evaluate(VARIABLES)
    assert isinstance(value, ErrorValue)
    assert reason in value


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', text)",
        "text.replace('', body.s)",
        "body.words.join(text)",
        "body.words.map(x, text).join()",
        "text.format(body.words)",
        "text.find(body.s)",
        "[1].map(x, text.find('a'))",
    ],
)
def test_what_no_literal_bounds_is_not_evaluated_in_the_loop(source: str) -> None:
    assert RESPONSE_ENV.compile(source).cost(0, 0) == UNBOUNDED


@pytest.mark.parametrize(
    ("source", "weight"),
    [
        ("'a'" + ".replace('a', 'aaaaaaaaaaaaaaaa')" * 20 + " == ''", 0),
        ("'a'" + ".split('').join('bbbbbbbbbbbbbbbb')" * 10 + " == ''", 0),
        ("strings.quote(" * 30 + "'\"'" + ")" * 30 + " == ''", 0),
        ("text.split('').map(x, x) == []", 4000),
        ("body.n.all(x, text.split('') == [])", 4000),
        ("text.findAll('a') == []", 8000),
    ],
)
def test_what_makes_much_of_little_is_not_evaluated_in_the_loop(source: str, weight: int) -> None:
    assert RESPONSE_ENV.compile(source).cost(weight, weight // 2) > INLINE_COST


@pytest.mark.parametrize(
    "source",
    ["body.s.trim().lowerAscii() == 'done'", "body.words.join(', ') == 'a'", "text.split('\\n')[0] == 'a'", "body.n.sum() > 3", "text.find('[0-9]+') == '12'"],
)  # fmt: skip
def test_a_common_use_is_evaluated_in_the_loop(source: str) -> None:
    assert RESPONSE_ENV.compile(source).cost(2000, 100) <= INLINE_COST


async def test_a_worker_ends_before_a_string_takes_gigabytes() -> None:
    conditions = shared_conditions(ConditionSources("size(text.replace('a', text)) > 1"), frozenset())
    response = ResponseVariables(200, {}, b"a" * 1024 * 1024, None)
    assert not conditions.fits_inline(response)
    with pytest.raises((BrokenWorkerProcess, MemoryError)):
        await run_in_worker(conditions.evaluate, response, limiter=CapacityLimiter(1))
