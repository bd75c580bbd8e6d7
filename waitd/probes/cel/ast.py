"""What a compiled CEL expression names and does, read from its serialized tree.

The serialized form is a `cel.expr.CheckedExpr` inside a `google.protobuf.Any`. Its wire format is stable and small, so it is walked
here instead of carrying protobuf along; field numbers are those of cel-spec's `syntax.proto` and `checked.proto`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

#: `_[_]` with a literal string is a field access in other clothes.
_INDEX = "_[_]"
#: Repetition counts and Unicode classes blow a short pattern up into a large automaton.
_LARGE_PATTERN = re.compile(r"\{|\\[pP]")


class _Kind(IntEnum):
    """The field of `Expr` that is set."""

    CONST = 3
    IDENT = 4
    SELECT = 5
    CALL = 6
    LIST = 7
    STRUCT = 8
    COMPREHENSION = 9


Path = tuple[str, ...]


@dataclass(slots=True)
class Survey:
    """What one expression names and does.

    Attributes:
        paths: for each variable that it names, the paths below it; the empty path is the whole variable.
        loops: comprehensions.
        nested: one of them runs inside another.
        building: loops that build a list, which this CEL does in quadratic time.
        outer: mentions of variables inside loops: they are worked on once per element.
        joins: it adds something up outside a loop.
        matches: it matches a regular expression.
        large_pattern: one that may be large, is not literal, or is matched in a loop.
    """

    paths: dict[str, set[Path]] = field(default_factory=dict)
    loops: int = 0
    nested: bool = False
    building: int = 0
    outer: int = 0
    joins: bool = False
    matches: bool = False
    large_pattern: bool = False


def survey(serialized: bytes) -> Survey:
    """Reads an expression as `Expression.serialize()` gives it.

    Raises:
        ValueError: these bytes are no such expression.
    """
    seen = Survey()
    try:
        _Walker(seen).visit(_root(serialized), frozenset(), 0)
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError("this is no serialized CEL expression") from error
    return seen


def tree(serialized: bytes) -> "Node":
    """The expression's topmost node, of one that `survey` has read."""
    return Node(_root(serialized))


def _root(serialized: bytes) -> "_Expr":
    return _expr(_one(_one(serialized, 2), 4))


class Literal(NamedTuple):
    """A literal's value: a string, an int, a bool or None."""

    value: str | int | bool | None


class Node:
    """One node of an expression, for those who look for forms that they know."""

    def __init__(self, expr: "_Expr") -> None:
        self._expr = expr

    @property
    def call(self) -> tuple[str, list["Node"]]:
        """The function that it calls, as CEL names it (`_==_`, `@in`), and what with; ("", []) where it is no such call."""
        kind, data = self._expr
        if kind is not _Kind.CALL or _all(data, 1):  # a method's receiver
            return "", []
        return _one(data, 2).decode(), [Node(_expr(part)) for part in _all(data, 3)]

    @property
    def place(self) -> tuple[str, Path] | None:
        """The variable that it names and the fields below it; None where it is something else."""
        base, path = _unwound(self._expr)
        return (_one(base.data, 1).decode().removeprefix("."), path) if base.kind is _Kind.IDENT else None

    @property
    def literal(self) -> Literal | None:
        """The literal that it is; None where it is something else, or a literal of another type."""
        if self._expr.kind is not _Kind.CONST:
            return None
        for number, value in _fields(self._expr.data):
            match number:
                case 1:
                    return Literal(None)
                case 2:
                    return Literal(value != b"\0")
                case 3:
                    unsigned, _ = _varint(value, 0)
                    return Literal(unsigned - (1 << 64) if unsigned >> 63 else unsigned)
                case 6:
                    return Literal(value.decode())
        return None

    @property
    def strings(self) -> list[str] | None:
        """The literal strings of the list that it is; None where it is something else."""
        if self._expr.kind is not _Kind.LIST:
            return None
        texts = [_string(_expr(element)) for element in _all(self._expr.data, 1)]
        known = [text for text in texts if text is not None]
        return known if len(known) == len(texts) else None


class _Expr(NamedTuple):
    kind: _Kind
    data: bytes


class _Walker:
    def __init__(self, seen: Survey) -> None:
        self.seen = seen

    def visit(self, expr: _Expr, shadowed: frozenset[str], depth: int) -> None:
        """`shadowed`: loop variables in force; `depth`: how many loops it is inside of."""
        base, path = _unwound(expr)
        match base.kind:
            case _Kind.IDENT:
                self._mention(_one(base.data, 1).decode(), path, shadowed, depth)
            case _Kind.COMPREHENSION:
                self._comprehension(base.data, shadowed, depth)
            case _Kind.CALL:
                self._call(base.data, shadowed, depth)
            case _Kind.LIST:
                for element in _all(base.data, 1):
                    self.visit(_expr(element), shadowed, depth)
            case _Kind.STRUCT:
                for entry in _all(base.data, 2):
                    for part in (*_all(entry, 3), *_all(entry, 4)):
                        self.visit(_expr(part), shadowed, depth)
            case _Kind.CONST | _Kind.SELECT:  # unwinding never stops at a select
                pass

    def _mention(self, name: str, path: Path, shadowed: frozenset[str], depth: int) -> None:
        if name in shadowed:
            return
        # A leading dot names the variable itself, past any loop variable of that name.
        self.seen.paths.setdefault(name.removeprefix("."), set()).add(path)
        self.seen.outer += depth > 0

    def _call(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        function = _one(data, 2).decode()
        parts = [_expr(part) for part in (*_all(data, 1), *_all(data, 3))]
        if function == "matches":
            pattern = _string(parts[-1])
            self.seen.matches = True
            if depth or pattern is None or _LARGE_PATTERN.search(pattern):
                self.seen.large_pattern = True
        elif function == "_+_" and not depth:
            self.seen.joins = True
        for part in parts:
            self.visit(part, shadowed, depth)

    def _comprehension(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        self.seen.loops += 1
        self.seen.nested |= depth > 0
        names = {_one(data, number).decode() for number in (1, 3, 8) if _all(data, number)}
        start = _expr(_one(data, 4))
        self.seen.building += start.kind is _Kind.LIST
        for outside in (_expr(_one(data, 2)), start):
            self.visit(outside, shadowed, depth)
        for inside in (_one(data, 5), _one(data, 6)):
            self.visit(_expr(inside), shadowed | names, depth + 1)
        self.visit(_expr(_one(data, 7)), shadowed | names, depth)


def _unwound(expr: _Expr) -> tuple[_Expr, Path]:
    """The expression below a chain of field accesses, and the names along it: `body.a["b"]` is `body` and a, b."""
    path: list[str] = []
    while True:
        if expr.kind is _Kind.SELECT:
            path.append(_one(expr.data, 2).decode())
            expr = _expr(_one(expr.data, 1))
            continue
        if expr.kind is _Kind.CALL and _one(expr.data, 2) == _INDEX.encode():
            operands = [_expr(part) for part in _all(expr.data, 3)]
            name = _string(operands[1])
            if name is not None:
                path.append(name)
                expr = operands[0]
                continue
        return expr, tuple(reversed(path))


def _string(expr: _Expr) -> str | None:
    """The value of a string literal; None where it is something else."""
    texts = _all(expr.data, 6) if expr.kind is _Kind.CONST else []
    return texts[0].decode() if texts else None


def _expr(data: bytes) -> _Expr:
    for number, value in _fields(data):
        if number >= _Kind.CONST:
            return _Expr(_Kind(number), value)
    raise LookupError("an expression of no kind")


def _one(data: bytes, number: int) -> bytes:
    return _all(data, number)[0]


def _all(data: bytes, number: int) -> list[bytes]:
    return [value for field_number, value in _fields(data) if field_number == number]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of one message; a number comes as its varint, of a fixed width as empty bytes: nothing here needs those."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                start = at
                _, at = _varint(data, at)
                yield tag >> 3, data[start:at]
            case 1:
                at += 8
                yield tag >> 3, b""
            case 2:
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise LookupError("a field that ends after its message")
                yield tag >> 3, data[at : at + length]
                at += length
            case 5:
                at += 4
                yield tag >> 3, b""
            case wire_type:
                raise LookupError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
