"""CEL expressions: the fields that they name, what they cost, and where they are evaluated."""

import asyncio
import sys
import time
from typing import Any

import anyio
import orjson
import pytest
from raw_server import answer, poke, probe, raw_server

from waitd.core.http.answer import Decision
from waitd.core.waits.verdict import Pending, Success, Unreachable
from waitd.probes.cel.ast import analyze
from waitd.probes.cel.conditions import Conditions, shared_conditions
from waitd.probes.cel.expressions import INLINE_COST, UNBOUNDED, ConditionSources, ErrorValue, prune
from waitd.probes.cel.response import RESPONSE_ENV, ResponseVariables, decode_json
from waitd.probes.cel.workers import run_in_worker

REGEX = "text.matches('(.{0,30}){30}c')"
DOUBLING = "text + text"
for _ in range(7):
    DOUBLING = f"({DOUBLING}) + ({DOUBLING})" if len(DOUBLING) < 450 else DOUBLING


def conditions(success_when: str, **more: str) -> Conditions:
    return shared_conditions(ConditionSources(success_when, **more), frozenset())


def response(body: Any, headers: dict[str, str] | None = None) -> ResponseVariables:
    return ResponseVariables(
        200, headers or {}, body if isinstance(body, bytes) else orjson.dumps(body), None
    )


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("status == 200", {"status": {()}}),
        ("body.a.b == 'x'", {"body": {("a", "b")}}),
        ("body['a'].b == body.c", {"body": {("a", "b"), ("c",)}}),
        ("body.a[0].b == 1", {"body": {("a",)}}),
        ("body[text] == 1", {"body": {()}, "text": {()}}),
        ("has(body.a.b)", {"body": {("a", "b")}}),
        ("body == null", {"body": {()}}),
        ("headers['x-a'] == '1'", {"headers": {("x-a",)}}),
        ("size(body.a) > 0 && [body.b] == {'k': body.c}.k", {"body": {("a",), ("b",), ("c",)}}),
        ("body.a.exists(x, x.b == body.c)", {"body": {("a",), ("c",)}}),
        ("body.a.exists(body, body.b == 1)", {"body": {("a",)}}),
        ("[1].exists(body, body > 1) && body.a", {"body": {("a",)}}),
        ("[1].exists(body, .body.a == body)", {"body": {("a",)}}),
        ("body.a.map(x, x.b) == []", {"body": {("a",)}}),
        ("body.a.contains(text) || body.b.matches('x')", {"body": {("a",), ("b",)}, "text": {()}}),
        ("true", {}),
    ],
)
def test_the_fields_that_an_expression_names_are_collected(
    source: str, paths: dict[str, set[tuple[str, ...]]]
) -> None:
    assert analyze(RESPONSE_ENV.compile(source)._compiled.serialize()).paths == paths


@pytest.mark.parametrize("broken", [b"", b"\x00", b"\x12\xff\xff", b"\x12\x02\x22\x00", b"\x0f" * 20])
def test_bytes_that_are_not_an_expression_are_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="not a serialized CEL expression"):
        analyze(broken)


def test_values_are_pruned_to_the_named_fields() -> None:
    body = {"a": {"b": 1, "big": [0] * 1000}, "c": [1, 2], "d": "x", "e": None}
    assert prune(body, {"a": {"b": None}, "missing": {"x": None}}) == {"a": {"b": 1}}
    assert prune(body, {"c": {"x": None}, "d": {"x": None}, "e": None}) == {"c": None, "d": None, "e": None}
    assert prune(body, None) is body


@pytest.mark.parametrize(
    ("source", "body", "value"),
    [
        ("has(body.a)", {"a": None}, True),
        ("has(body.a)", {}, False),
        ("has(body.a.b)", {"a": {}}, False),
        ("has(body.a.b)", {"a": [1]}, None),
        ("body.a.b == 1", {"a": [1]}, None),
        ("body.a.b == 1", [1], None),
        ("body.a.b == 1", {"a": "text"}, None),
        ("body.a == 1 || body.b == 2", {"b": 2}, True),
        ("body.a == 1 && body.b == 2", {"b": 3}, False),
        ("body.a == 9223372036854775808", {"a": 1}, None),
        ("size(body) == 2", {"a": 1, "b": 2}, True),
        ("body.a[1] == 2", {"a": [1, 2]}, True),
        ("body.list.exists(i, i.state == 'done')", {"list": [{"state": "x"}, {"state": "done"}]}, True),
        ("body.list.all(i, i.state == 'done')", {"list": [{"state": "x"}, {"state": "done"}]}, False),
        ("body.list.filter(i, i > 1).exists(j, j == 3)", {"list": [1, 3]}, True),
    ],
)
def test_pruning_changes_no_value(source: str, body: Any, value: bool | None) -> None:
    try:
        expression = RESPONSE_ENV.compile(source)
    except ValueError:
        assert value is None
        return
    evaluated = expression.evaluate(response(body))
    assert isinstance(evaluated, ErrorValue) if value is None else evaluated is value


@pytest.mark.parametrize(
    ("source", "body", "value"),
    [
        ("type(body) == list", [], True),
        ("type(body) == list", {}, False),
        ("type(body.a) in [int, double]", {"a": 1.5}, True),
        ("body.a.exists(x, type(x) == null_type)", {"a": [1, None]}, True),
        ("type(type(body)) == type", 1, True),
        ("[1].exists(int, int == body)", 1, True),
        ("{int: 1} == {} || true", 1, True),
        ("google.protobuf.NullValue.NULL_VALUE == body", 0, True),
        ("body.a == 'x'", {"a": "x\0y"}, False),
        ("body.a.contains('y')", {"a": "x\0y"}, True),
        ("text.contains('done')", b"\0done", True),
        ("timestamp(body).getHours('Europe/Berlin') == 1", 0, True),
        ("timestamp(body).getHours('-03:00') == 21", 0, True),
    ],
)
def test_types_and_odd_values_can_be_asked(source: str, body: Any, value: bool) -> None:
    assert RESPONSE_ENV.compile(source).evaluate(response(body)) is value


@pytest.mark.parametrize(
    "source",
    [
        "{int: 1}",
        "{null: 1}",
        "timestamp(0).getHours('/etc/localtime') == 0",
        "timestamp(0).getDayOfWeek('../localtime') == 0",
        "timestamp(0).getMilliseconds('file:a') == 0",
        "timestamp(0).getHours(text) == 0",
        "timestamp(0).getHours('a' + 'b') == 0",
        "[".ljust(500, "["),
        "-(" * 400 + "1" + ")" * 400,
    ],
)
def test_what_cannot_be_asked_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r".{10}"):
        RESPONSE_ENV.compile(source)


@pytest.mark.parametrize("source", ["null", "body", "body.a", "[null, body]", "{'a': [null]}", "[body].map(x, x)", "google.protobuf.Value{}", "body.x", "1", "''", "dyn(body) == null"])  # fmt: skip
@pytest.mark.parametrize("body", [None, {"a": None}, {"a": [None, {"b": None}]}, [None] * 200])
def test_nulls_use_up_no_references(source: str, body: Any) -> None:
    expression, variables = RESPONSE_ENV.compile(source), response(body)
    expression.evaluate(variables)
    kept = [None, True, False, 1, 0, ""]
    before = [sys.getrefcount(each) for each in kept]
    for _ in range(300):
        expression.evaluate(variables)
    assert all(abs(sys.getrefcount(each) - count) < 150 for each, count in zip(kept, before, strict=True))


def test_equal_conditions_are_one_object_and_compiled_once() -> None:
    assert conditions("body.one_object == 1") is conditions("body.one_object == 1")
    assert RESPONSE_ENV.compile("body.one_object == 1") is RESPONSE_ENV.compile("body.one_object == 1")


def test_the_body_is_decoded_at_first_use_and_once() -> None:
    variables = response({"a": {}})
    assert variables.body is variables.body
    assert decode_json(b"\xff") == decode_json(b"") == (None, False)
    assert decode_json(b"null") == (None, True)


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "unicode_escape", "utf-7", "hex", "nonsense", "a\0b"]
)
def test_an_unknown_or_slow_charset_is_not_used(charset: str) -> None:
    assert ResponseVariables(200, {}, b"done", charset).text == "done"


def test_failure_when_is_evaluated_before_success_when() -> None:
    assert conditions("true", failure_when="true").decide(response({})).decision is Decision.FAILURE


# ---------------------------------------------------------------- cost


@pytest.mark.parametrize(
    "source",
    [
        "status == 200",
        "body.status == 'SUCCEEDED'",
        "body.status in ['SUCCEEDED', 'DONE'] && size(body.errors) == 0",
        "body.items.exists(i, i.state == 'done')",
        "body.items.all(i, i.state in body.final)",
        "body.items.filter(i, i.state != 'done').size() == 0",
        "body.state.matches('^(DONE|OK)$')",
        "headers['x-state'].contains('done')",
    ],
)
def test_a_common_condition_is_evaluated_in_the_loop(source: str) -> None:
    job: dict[str, Any] = {"status": "RUNNING", "state": "RUNNING", "errors": [], "final": ["done"]}
    job["items"] = [{"id": n, "state": "done"} for n in range(30)]
    assert conditions(source).fits_inline(response(job, {"x-state": "done"}))


HEAVY = [
    (REGEX, b"ab" * 100),
    ("'aaaa'.matches('(.{0,30}){30}c')", b""),
    ("text.matches(body.pattern)", b"{}"),
    ("text.matches('\\\\pL+')", b"{}"),
    ("[1, 2].all(x, text.matches('a'))", b""),
    ("body.map(x, x) == []", b"[" + b"1," * 3000 + b"1]"),
    ("body.all(x, body == body)", b"[" + b"1," * 1000 + b"1]"),
    (f"size({DOUBLING}) == 1", b"x" * 30_000),
    ("size(['a'].map(x, x + x + x).map(x, x + x + x).map(x, x + x + x).map(x, x + x + x)) == 1", b""),
    ("[1].map(x, [x, x, x, x, x]).map(x, [x, x, x, x]).map(x, [x, x, x, x]) == []", b""),
    ("[body.a, body.a] == [] || [" + "body.b, " * 100 + "1] == []", b'{"b": [' + b"1," * 3000 + b"1]}"),
    ("body.a == 1", b'{"a": "' + b"x" * 40_000 + b'"}'),
    ("body.all(x, x > 1)", b"[" + b"1," * 15_000 + b"1]"),
]


@pytest.mark.parametrize(("source", "body"), HEAVY, ids=range(len(HEAVY)))
def test_what_could_block_the_loop_does_not_fit_inline(source: str, body: bytes) -> None:
    assert not conditions(source).fits_inline(response(body))


def test_a_large_pattern_never_fits_inline() -> None:
    assert RESPONSE_ENV.compile(REGEX).cost(0, 0) == UNBOUNDED > INLINE_COST
    assert conditions(REGEX).inline_limit == -1


async def test_a_worker_evaluates_as_the_loop_does() -> None:
    heavy = conditions("body.items.exists(i, i == 7)", message="body.state", result="body.n")
    variables = response({"items": [7], "state": "done", "n": [1, {"a": None}]})
    in_worker = await run_in_worker(heavy.evaluate, variables, limiter=anyio.CapacityLimiter(1))
    assert in_worker == heavy.evaluate(variables)


async def test_the_probe_evaluates_a_large_body_in_a_worker() -> None:
    body = orjson.dumps({"items": list(range(9000)), "pad": "x" * 100_000})
    async with raw_server([answer(200, body)]) as server, probe() as http:
        present, missing = await poke(
            http,
            {
                "endpoint": server.url,
                "success_when": "body.items.exists(i, i == 8999)",
                "result": "size(body.items)",
            },
            {"endpoint": server.url, "success_when": "body.items.exists(i, i == -1)"},
        )
    assert present == Success(9000, "success", "HTTP 200 OK")
    assert isinstance(missing, Pending)


SLOW = f"{REGEX} || text.matches('.*a.{{200}}c')"


async def test_a_condition_that_is_too_slow_is_unreachable_and_does_not_block_the_loop() -> None:
    body = b"ab" * 500_000
    async with raw_server([answer(200, body)]) as server, probe() as http:
        poking = asyncio.ensure_future(
            poke(http, {"endpoint": server.url, "success_when": SLOW, "request_timeout": 1.5})
        )
        gaps, last = [], time.perf_counter()
        while not poking.done():
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
        [verdict] = poking.result()
    assert (type(verdict), verdict.reason) == (Unreachable, "condition_too_slow")
    assert len(gaps) > 20


async def test_a_slow_condition_leaves_time_for_the_others_of_its_group() -> None:
    body = b'{"done": true, "pad": "' + b"ab" * 450_000 + b'"}'
    async with raw_server([answer(200, body)]) as server, probe() as http:
        slow, good = await poke(
            http,
            {"endpoint": server.url, "success_when": SLOW, "request_timeout": 4.0},
            {"endpoint": server.url, "success_when": "body.done", "request_timeout": 4.0},
        )
    assert isinstance(slow, Unreachable)
    assert isinstance(good, Success)


async def test_a_condition_that_needs_too_much_memory_is_not_a_success() -> None:
    body = b'{"l": [' + b"1," * 5000 + b'1], "x": "' + b"y" * 900_000 + b'"}'
    params = {"success_when": "body.l.map(x, body.x + body.x) == []", "request_timeout": 10.0}
    async with raw_server([answer(200, body)]) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url, **params})
    assert not isinstance(verdict, Success)
    assert isinstance(verdict, Pending) or verdict.reason == "condition_too_slow"
