"""The conditions that nearly everybody writes, without CEL: `body.status == 'SUCCEEDED'`, `body.state in ['FAILED', 'KILLED']`, `status < 300`.

CEL spends microseconds on converting what it is handed. What has the form below is turned into Python functions that say True, False, or
None where they do not know; then CEL is asked, and it alone has the say about errors. The form: a field of a variable, or a literal,
compared (`==`, `!=`, `<`, `<=`, `>`, `>=`) with a literal, or looked for in a list of literal strings; these joined by `&&`, `||`, `!`.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from waitd.probes.cel.ast import Node

#: Reads the variables; True, False, or None: ask CEL.
Plain = Callable[[Any], bool | None]
_Read = Callable[[Any], Any]

_UNKNOWN = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}


def plain(node: Node) -> Plain | None:
    """The function of an expression; None where it is not of that form."""
    function, operands = node.call
    match function:
        case "_&&_" | "_||_":
            return _joined([plain(operand) for operand in operands], decisive=function == "_||_")
        case "!_":
            return _negated(plain(operands[0]))
        case "_==_" | "_!=_":
            return _equality(*operands, equal=function == "_==_")
        case "@in":
            return _membership(*operands)
        case "_<_" | "_<=_" | "_>_" | "_>=_":
            return _order(operands[0], operands[1], _ORDER[function])
    return None


def _joined(parts: Iterable[Plain | None], *, decisive: bool) -> Plain | None:
    """`||` is decided by the first True, `&&` by the first False, whatever an error beside it would say."""
    known = [part for part in parts if part is not None]
    if len(known) != 2:
        return None
    first, second = known

    def joined(variables: Any) -> bool | None:
        left = first(variables)
        if left is decisive:
            return decisive
        right = second(variables)
        if right is decisive:
            return decisive
        return None if left is None else right

    return joined


def _negated(part: Plain | None) -> Plain | None:
    if part is None:
        return None

    def negated(variables: Any) -> bool | None:
        value = part(variables)
        return None if value is None else not value

    return negated


def _equality(left: Node, right: Node, *, equal: bool) -> Plain | None:
    read, literal = _reader(left), right.literal
    if read is None or literal is None:
        read, literal = _reader(right), left.literal
    if read is None or literal is None:
        return None
    wanted = literal.value
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return _ordered(read, wanted, operator.eq if equal else operator.ne)
    alone = wanted is None or isinstance(
        wanted, bool
    )  # in Python 1 == True; in CEL values of two types are never equal

    def compare(variables: Any) -> bool | None:
        value = read(variables)
        if value is _UNKNOWN:
            return None
        return (value is wanted if alone else value == wanted) is equal

    return compare


def _membership(item: Node, container: Node) -> Plain | None:
    read, wanted = _reader(item), container.strings
    if read is None or wanted is None:
        return None
    members = frozenset(wanted)

    def member(variables: Any) -> bool | None:
        value = read(variables)
        return value in members if isinstance(value, str) else None

    return member


def _order(left: Node, right: Node, compare: Callable[[Any, Any], bool]) -> Plain | None:
    read, literal = _reader(left), right.literal
    if (
        read is None
        or literal is None
        or isinstance(literal.value, bool)
        or not isinstance(literal.value, int)
    ):
        return None
    return _ordered(read, literal.value, compare)


def _ordered(read: _Read, wanted: int, compare: Callable[[Any, Any], bool]) -> Plain:
    def ordered(variables: Any) -> bool | None:
        value = read(variables)
        return compare(value, wanted) if type(value) is int else None  # not bool, and floats are CEL's affair

    return ordered


def _reader(node: Node) -> _Read | None:
    """Reads a field of a variable: its value, or that it is not known."""
    place = node.place
    if place is None:
        return None
    name, path = place
    if not path:
        return operator.attrgetter(name)
    if len(path) == 1:
        [field] = path

        def read_field(variables: Any) -> Any:
            value = getattr(variables, name)
            return value.get(field, _UNKNOWN) if isinstance(value, dict) else _UNKNOWN

        return read_field

    def read(variables: Any) -> Any:
        value = getattr(variables, name)
        for field in path:
            if not isinstance(value, dict) or field not in value:
                return _UNKNOWN
            value = value[field]
        return value

    return read
