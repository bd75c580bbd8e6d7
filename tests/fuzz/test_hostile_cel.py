"""Expressions made to exhaust: refused, or cheap in the event loop, or left to a worker process."""

import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest
from test_cel import VARIABLES

from waitd.probes.cel.expressions import INLINE_COST, ErrorValue

#: `L` is a list, `M` a map, `S` a string and `I` the largest integer; of the variable's own.
NESTED = (
    "(" * 500 + "true" + ")" * 500,
    "[" * 500 + "]" * 500 + " == []",
    "{1:" * 250 + "1" + "}" * 250 + " == {}",
    "!" * 1000 + "true",
    "-" * 1000 + "1 == 1",
    "true" + " && true" * 120,
    "true ? " * 60 + "true" + " : false" * 60,
    "L" + ".a" * 400 + " == 1",
    "'a'" + ".trim()" * 140 + " == 'a'",
    "1" + " + 1" * 250 + " > 0",
    "[" + ", ".join(["1"] * 300) + "].all(x, x == 1)",
    "size({" + ", ".join(f"{n}: 1" for n in range(130)) + "}) > 0",
)
LOOPS = (
    "L.all(a, L.all(b, L.all(c, L.all(d, L.all(e, L.all(f, a == f))))))",
    "L.all(x, x in L)",
    "L.map(x, L) == []",
    "L.map(x, string(x)).join(S).size() > 0",
    "M.exists(k, M[k] == 1)",
    "S.matches('(a*)*$')",
    "S.matches('(a|a|a?)+$')",
    "S.matches('((a{0,100}){0,100}){0,100}b')",
    "S.matches(S)",
    "S.replace('', S).size() > 0",
    "S" + ".replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 8 + ".size() > 0",
    "S.findAll('').size() > 0",
    "'%.999999999f'.format([1.0]) == ''",
    "'%s%s%s%s'.format([L, L, L, L]) == ''",
    "(" + " + ".join(["S"] * 100) + ").size() > 0",
)
RANGES = (
    "timestamp('99999-01-01T00:00:00Z') > timestamp(0)",
    "timestamp(9223372036854775807) > timestamp(0)",
    "timestamp(I) > timestamp(0)",
    "timestamp('9999-12-31T23:59:59Z') + duration('315576000000s') > timestamp(0)",
    "duration('999999999999999999h') > duration('1s')",
    "duration(S) > duration('1s')",
    "timestamp(0).getHours(S) > 0",
    "1 / 0 == 1",
    "I % 0 == 1",
    "1.0 / 0.0 > 1.0",
    "9223372036854775807 + I > 0",
    "I * I > 0",
    "-I - 2 > 0",
    "uint(-I) > 0u",
    "int(1e300) > 0",
    "int(S) > 0",
    "S.substring(-1) == ''",
    "S.charAt(-9223372036854775808) == ''",
    "S.split('a', -9223372036854775808).size() > 0",
    "S.replace('a', 'b', 9223372036854775807).size() > 0",
)
COMPARISONS = tuple(
    f"dyn({left}) {operator} dyn({right})"
    for left in ("1", "1u", "1.5", "'a'", "b'a'", "null", "true", "L", "M", "int", "timestamp(0)")
    for right in ("-1", "'1'", "L", "duration('1s')", "type(null)")
    for operator in ("<", "in")
)
BYTES_TYPE = "type.googleapis.com/google.protobuf.BytesValue"
#: Valid UTF-8, but the message that it encodes has only the first byte of "é".
HALF_A_CHARACTER = r"b'\x0a\x01é\x01aaaaaaaa'"
#: Without UTF-8 in a string, the binding ends the process.
NOT_UTF8 = (
    r"'%s'.format([b'\xff']).find('a') == ''",
    r"{'%s'.format([b'\xff']): 1} == {}",
    r"[b'\xff'].exists(b, '%s'.format([b]).find('a') == '')",
    r"'%s'.format([{'a': [true ? b'a' + b'\xc3' : b'']}]).findAll('a') == []",
    "'%s'.format([google.protobuf.BytesValue{value: b'\\xff'}]).find('a') == ''",
    f"'%s'.format([google.protobuf.Any{{type_url: '{BYTES_TYPE}', value: {HALF_A_CHARACTER}}}]).find('a') == ''",
)
FIELD = re.compile(r"\b[LMSI]\b")
#: What cannot be a value: each is an error or refused at submit.
WITHOUT_VALUE = frozenset(RANGES) - {
    "1.0 / 0.0 > 1.0",
    "S.split('a', -9223372036854775808).size() > 0",
    "S.replace('a', 'b', 9223372036854775807).size() > 0",
}


def variables_of(name: str, size: int) -> tuple[str, Any]:
    """An expression for a map with `L`, `M`, `S` and `I`, and the variables with it."""
    document = {
        "L": list(range(size)),
        "M": {str(n): n for n in range(size)},
        "S": "ab" * size,
        "I": 2**63 - 1,
    }
    match name:
        case "signal":
            return "payload", SimpleNamespace(payload=document)
        case "rows":
            return "rows[0]", SimpleNamespace(rows=[document])
        case "files":
            return "files[0]", SimpleNamespace(files=[document])
    common = {"status": 200, "headers": {}, "text": "", "body": document}
    return "body", SimpleNamespace(**common, key="key", params={})


@pytest.mark.parametrize(("name", "size"), [*((name, 10) for name in VARIABLES), ("response", 10_000)])
def test_a_hostile_expression_is_refused_or_has_a_value_or_is_a_workers(name: str, size: int) -> None:
    environment, _ = VARIABLES[name]
    root, variables = variables_of(name, size)
    weight = len(repr(vars(variables)))
    inline = 0
    for source in (*NESTED, *LOOPS, *RANGES, *COMPARISONS):
        text = FIELD.sub(rf"{root}.\g<0>", source)
        try:
            expression = environment.compile(text)
        except ValueError:
            continue
        if expression.cost(weight, 2 * size) > INLINE_COST:
            continue
        inline += 1
        value = expression.evaluate(variables)
        assert pickle.loads(pickle.dumps(value)) == value, source
        assert source not in WITHOUT_VALUE or isinstance(value, ErrorValue), (source, value)
        assert source not in COMPARISONS or isinstance(value, bool | ErrorValue), (source, value)
    assert inline > 100 or size > 10


def test_loops_in_loops_are_refused_everywhere() -> None:
    for environment, _ in VARIABLES.values():
        problem = environment.problem("[1].all(a, [1].all(b, a == b))", "BOOL")
        assert problem is not None
        assert "cannot be nested" in problem


@pytest.mark.parametrize("source", NOT_UTF8)
def test_a_string_that_is_not_utf8_cannot_be_made_anywhere(source: str) -> None:
    for environment, _ in VARIABLES.values():
        problem = environment.problem(source, "BOOL")
        assert problem is not None
        assert "not UTF-8" in problem


def test_bytes_that_are_utf8_may_be_formatted() -> None:
    environment, _ = VARIABLES["signal"]
    expression = environment.compile(r"'%s %s'.format([b'\xc3\xa9', size(b'ab')]).find('.+ ')")
    assert expression.evaluate(SimpleNamespace(payload=1)) == "é "
    assert environment.compile(r"size(b'\xff') == 1").evaluate(SimpleNamespace(payload=1)) is True
