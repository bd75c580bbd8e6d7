"""The fast path evaluates conditions as CEL does, or leaves them to CEL."""

from typing import Any

import pytest
from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no types
from hypothesis import example, given, settings
from hypothesis import strategies as st

from waitd.probes.cel.ast import root_node
from waitd.probes.cel.fast_path import FastEvaluator, compile_fast
from waitd.probes.cel.functions import new_environment
from waitd.probes.cel.response import RESPONSE_ENV

ENV = new_environment(
    {
        "status": cel.Type.INT,
        "headers": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        "body": cel.Type.DYN,
        "text": cel.Type.STRING,
    }
)


class Variables:
    """The variables of a response."""

    def __init__(self, status: int, headers: dict[str, str], body: Any, text: str) -> None:
        self.status, self.headers, self.body, self.text = status, headers, body, text

    def __repr__(self) -> str:
        return repr(vars(self))


def compile_source(source: str) -> FastEvaluator | None:
    return compile_fast(root_node(ENV.compile(source).serialize()))


def evaluate_by_cel(source: str, variables: Variables) -> Any:
    """CEL's value, or "error"."""
    value = ENV.compile(source).eval(data=vars(variables))
    return "error" if value.type() == cel.Type.ERROR else value.plain_value()


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1, 200, 404])
#: Without NUL, at which CEL's Python bindings cut off strings and keys.
WORDS = st.sampled_from(
    ["", "done", "FAILED", " Done\n", "a b", "É", "é", "1", "true", "\x1c", "\x85a"]
) | st.text(max_size=4).filter(lambda word: "\0" not in word)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | WORDS
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(WORDS, SCALARS, max_size=2)


BODIES = (
    st.dictionaries(st.sampled_from(["a", "b", "a-b"]), VALUES | st.dictionaries(st.just("c"), VALUES))
    | VALUES
)
HEADERS = st.dictionaries(st.just("x"), WORDS)


def quoted(word: str) -> str:
    return "'" + "".join(f"\\U{ord(letter):08x}" for letter in word) + "'"


LITERALS = WORDS.map(quoted) | NUMBERS.map(str) | st.sampled_from(["null", "true", "false"])
METHODS = st.sampled_from(["", "", "", ".lowerAscii()", ".upperAscii()", ".trim()", ".trim().lowerAscii()"])
FIELDS = st.sampled_from(
    ["status", "text", "headers['x']", "body.a", "body.a.c", "body['a-b']", "body", "body.b.c.d"]
).flatmap(lambda field: METHODS.map(lambda method: field + method))
COMPARISONS = st.tuples(FIELDS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), LITERALS).map(" ".join)
REVERSED = st.tuples(LITERALS, st.sampled_from(["==", "!="]), FIELDS).map(" ".join)
MEMBERSHIPS = st.tuples(FIELDS, st.lists(WORDS.map(quoted), max_size=3)).map(
    lambda p: f"{p[0]} in [{', '.join(p[1])}]"
)
CONDITIONS = st.recursive(
    COMPARISONS | REVERSED | MEMBERSHIPS,
    lambda parts: st.tuples(parts, st.sampled_from(["&&", "||"]), parts).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})")
    | parts.map(lambda part: f"!({part})"),
    max_leaves=4,
)  # fmt: skip


def compiles(source: str) -> bool:
    try:
        ENV.compile(source)
    except RuntimeError:  # e.g. a status that is compared with a string
        return False
    return True


@settings(max_examples=600)
@given(
    CONDITIONS.filter(compiles),
    st.builds(Variables, st.integers(100, 599), HEADERS, BODIES, WORDS),
)
@example("body.a == 1", Variables(200, {}, {"a": True}, ""))
@example("body.a == true", Variables(200, {}, {"a": 1}, ""))
@example("body.a == 1", Variables(200, {}, {"a": 1.0}, ""))
@example("body.a != null", Variables(200, {}, {"a": 0}, ""))
@example("body.a == 'x' || status == 200", Variables(200, {}, {}, ""))
@example("body.a == 'x' && status == 404", Variables(200, {}, {}, ""))
@example("!(body.a == 'x')", Variables(200, {}, {}, ""))
@example("body.a.lowerAscii() == 'done'", Variables(200, {}, {"a": "DONE"}, ""))
@example("text.trim() == ''", Variables(200, {}, {}, "\x1c"))
@example("body.a < -1", Variables(200, {}, {"a": -2}, ""))
def test_the_fast_path_evaluates_as_cel_does(source: str, variables: Variables) -> None:
    function = compile_source(source)
    decided = None if function is None else function(variables)
    if decided is not None:
        assert decided is evaluate_by_cel(source, variables)


@pytest.mark.parametrize(
    ("source", "decided"),
    [
        ("body.status == 'SUCCEEDED'", True),
        ("body.status in ['FAILED', 'KILLED']", False),
        ("body['status'] != 'RUNNING' && status < 300", True),
        ("body.run.error != null || !(body.done == true)", True),
        ("body.rows > 0", True),
        ("body.status.lowerAscii() in ['succeeded', 'done']", True),
        ("headers['x-state'].trim().upperAscii() != 'DONE'", False),
        ("headers['x-state'] == 'done'", True),
    ],
)  # fmt: skip
def test_common_conditions_need_no_cel(source: str, decided: bool) -> None:
    variables = Variables(
        200,
        {"x-state": "done"},
        {"status": "SUCCEEDED", "run": {"error": None}, "done": False, "rows": 3},
        "",
    )
    function = compile_source(source)
    assert function is not None
    assert function(variables) is decided
    assert RESPONSE_ENV.compile(source).evaluate(variables) is decided


@pytest.mark.parametrize("source", ["body.a.exists(x, x == 1)", "size(text) == 1", "body.a == body.b", "text.contains('x')", "body.a in body.b"])  # fmt: skip
def test_other_conditions_are_left_to_cel(source: str) -> None:
    assert compile_source(source) is None
