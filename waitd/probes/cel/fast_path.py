"""Fast path for common conditions: compiles them to Python functions, which need no CEL library.

CEL converts every value that it is given, which takes longer than comparing it. Measured CPU of one
evaluation, with and without this module, on a job of twelve fields:

| condition                               | fast path |    CEL |
|-----------------------------------------|-----------|--------|
| `status == 200 && body.state == 'done'` |   0.38 µs | 5.5 µs |
| `body.state in ['FAILED', 'KILLED']`    |   0.27 µs | 5.0 µs |
| `status < 300`                          |   0.16 µs | 3.2 µs |

A poke of the whole daemon takes about 30 µs of CPU; without this module, two such conditions would
add 10 µs. To measure it again, time `RESPONSE_ENV.compile(source).evaluate(response)` and the same
with the expression's attribute `fast_path` set to None.

Supported: a literal or a field of a variable, compared with a literal (`==`, `!=`, `<`, `<=`, `>`,
`>=`) or with a list of strings (`in`); such comparisons joined by `&&`, `||` and `!`; and
`lowerAscii`, `upperAscii` and `trim` of a field. A function returns None where it cannot decide (a
missing field, another type); then CEL evaluates the expression, so errors come from CEL alone.
"""

import operator
from collections.abc import Callable
from typing import Any

from waitd.probes.cel.ast import Node

#: Evaluates a condition on an object that has an attribute for each variable; None: evaluate it
#: with CEL.
FastEvaluator = Callable[[Any], bool | None]
_Reader = Callable[[Any], Any]

_UNKNOWN = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}
#: What these methods return for text in ASCII.
_METHODS: dict[str, Callable[[str], str]] = {
    "lowerAscii": str.lower,
    "upperAscii": str.upper,
    "trim": lambda text: text.strip(" \t\n\v\f\r"),
}


def compile_fast(node: Node) -> FastEvaluator | None:
    """Compiles an expression to a Python function; None where its form is not supported."""
    function, operands = node.call
    match function:
        case "_&&_" | "_||_":
            return _join(*map(compile_fast, operands), decisive=function == "_||_")
        case "!_":
            return _negate(compile_fast(operands[0]))
        case "_==_" | "_!=_":
            return _compare_equal(*operands, equal=function == "_==_")
        case "@in":
            return _compare_membership(*operands)
        case "_<_" | "_<=_" | "_>_" | "_>=_":
            return _compare_order(operands[0], operands[1], _ORDER[function])
    return None


def _join(
    first: FastEvaluator | None, second: FastEvaluator | None, *, decisive: bool
) -> FastEvaluator | None:
    """As in CEL, a True decides `||` and a False `&&`, even if the other operand is an error."""
    if first is None or second is None:
        return None

    def joined(variables: Any) -> bool | None:
        left = first(variables)
        if left is decisive:
            return decisive
        right = second(variables)
        if right is decisive:
            return decisive
        return None if left is None else right

    return joined


def _negate(part: FastEvaluator | None) -> FastEvaluator | None:
    if part is None:
        return None

    def negated(variables: Any) -> bool | None:
        value = part(variables)
        return None if value is None else not value

    return negated


def _compare_equal(left: Node, right: Node, *, equal: bool) -> FastEvaluator | None:
    read, literal = _reader(left), right.literal
    if read is None or literal is None:
        read, literal = _reader(right), left.literal
    if read is None or literal is None:
        return None
    expected = literal.value
    if isinstance(expected, int) and not isinstance(expected, bool):
        return _compare_integers(read, expected, operator.eq if equal else operator.ne)
    # In Python 1 == True; in CEL values of different types are never equal.
    singleton = expected is None or isinstance(expected, bool)

    def compare(variables: Any) -> bool | None:
        value = read(variables)
        if value is _UNKNOWN:
            return None
        return (value is expected if singleton else value == expected) is equal

    return compare


def _compare_membership(item: Node, container: Node) -> FastEvaluator | None:
    read, strings = _reader(item), container.strings
    if read is None or strings is None:
        return None
    members = frozenset(strings)

    def member(variables: Any) -> bool | None:
        value = read(variables)
        return value in members if isinstance(value, str) else None

    return member


def _compare_order(left: Node, right: Node, compare: Callable[[Any, Any], bool]) -> FastEvaluator | None:
    read, literal = _reader(left), right.literal
    if read is None or literal is None or type(literal.value) is not int:
        return None
    return _compare_integers(read, literal.value, compare)


def _compare_integers(read: _Reader, expected: int, compare: Callable[[Any, Any], bool]) -> FastEvaluator:
    def compared(variables: Any) -> bool | None:
        value = read(variables)
        return compare(value, expected) if type(value) is int else None  # CEL compares booleans and floats

    return compared


def _reader(node: Node) -> _Reader | None:
    """Returns a function that reads a field of a variable, or `_UNKNOWN` if it is missing."""
    reference = node.reference
    if reference is None:
        return _method_reader(node)
    name, path = reference
    if not path:
        return operator.attrgetter(name)

    def read(variables: Any) -> Any:
        value = getattr(variables, name)
        try:
            for field in path:
                value = value[field]
        except (KeyError, TypeError):  # no such field, or no object: no other value takes a name
            return _UNKNOWN
        return value

    return read


def _method_reader(node: Node) -> _Reader | None:
    """Returns a function that reads a field and calls a method; `_UNKNOWN` if not in ASCII."""
    called = node.method
    if called is None or called[0] not in _METHODS:
        return None
    method, read = _METHODS[called[0]], _reader(called[1])
    if read is None:
        return None

    def read_method(variables: Any) -> Any:
        value = read(variables)
        return method(value) if isinstance(value, str) and value.isascii() else _UNKNOWN

    return read_method
