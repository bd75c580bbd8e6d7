"""Reads in the tree of a compiled CEL expression which fields it names and what it costs.

The serialized form is a `cel.expr.CheckedExpr` inside a `google.protobuf.Any`. Its wire format is
stable and small, so this module parses it without depending on protobuf. Field numbers are those of
cel-spec's `syntax.proto` and `checked.proto`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

#: The index operator. With a literal string it is a field access: `body["a"]` is `body.a`.
_INDEX = "_[_]"
#: Repetition counts and Unicode classes make a large automaton of a short pattern.
_LARGE_PATTERN = re.compile(r"\{|\\[pP]")


class _Kind(IntEnum):
    """The kind of an expression: the number of the field of `Expr` that is set."""

    CONST = 3
    IDENT = 4
    SELECT = 5
    CALL = 6
    LIST = 7
    STRUCT = 8
    COMPREHENSION = 9


Path = tuple[str, ...]


@dataclass(slots=True)
class ExpressionAnalysis:
    """Which fields an expression names, and what makes it costly.

    Attributes:
        paths: for each variable that it names, the field paths below it; () is the whole variable.
        loops: the number of comprehensions.
        nested: whether one comprehension runs inside another.
        building: the number of loops that build a list, which this CEL does in quadratic time.
        outer: mentions of variables inside loops, which are converted once per element.
        joins: whether it adds or concatenates outside a loop.
        matches: whether it matches a regular expression.
        large_pattern: whether a pattern may be large, is not a literal, or is matched in a loop.
    """

    paths: dict[str, set[Path]] = field(default_factory=dict)
    loops: int = 0
    nested: bool = False
    building: int = 0
    outer: int = 0
    joins: bool = False
    matches: bool = False
    large_pattern: bool = False


def analyze(serialized: bytes) -> ExpressionAnalysis:
    """Analyzes the result of `Expression.serialize()`.

    Raises:
        ValueError: the bytes are not a serialized expression.
    """
    analysis = ExpressionAnalysis()
    try:
        _Walker(analysis).visit(_root(serialized), frozenset(), 0)
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError("not a serialized CEL expression") from error
    return analysis


def root_node(serialized: bytes) -> "Node":
    """Returns the topmost node of an expression that `analyze` accepts."""
    return Node(_root(serialized))


def _root(serialized: bytes) -> "_Expr":
    return _expr(_first(_first(serialized, 2), 4))


class Literal(NamedTuple):
    """A literal's value. The wrapper tells the literal `null` from no literal at all."""

    value: str | int | bool | None


class Node:
    """One node of an expression's syntax tree."""

    def __init__(self, expr: "_Expr") -> None:
        self._expr = expr

    @property
    def call(self) -> tuple[str, list["Node"]]:
        """The called function by CEL's name (`_==_`, `@in`), and its arguments; else ("", [])."""
        kind, data = self._expr
        if kind is not _Kind.CALL or _all(data, 1):  # a method's receiver
            return "", []
        return _first(data, 2).decode(), [Node(_expr(part)) for part in _all(data, 3)]

    @property
    def reference(self) -> tuple[str, Path] | None:
        """The variable and the field path that the node names; None if it is not a field access."""
        base, path = _unwind(self._expr)
        return (_first(base.data, 1).decode().removeprefix("."), path) if base.kind is _Kind.IDENT else None

    @property
    def literal(self) -> Literal | None:
        """The value of a literal string, int, bool or null; None for any other node."""
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
        """The elements of a list of literal strings; None for any other node."""
        if self._expr.kind is not _Kind.LIST:
            return None
        texts = [_string(_expr(element)) for element in _all(self._expr.data, 1)]
        strings = [text for text in texts if text is not None]
        return strings if len(strings) == len(texts) else None


class _Expr(NamedTuple):
    kind: _Kind
    data: bytes


class _Walker:
    """Fills in an analysis."""

    def __init__(self, analysis: ExpressionAnalysis) -> None:
        self.analysis = analysis

    def visit(self, expr: _Expr, shadowed: frozenset[str], depth: int) -> None:
        """Visits an expression inside `depth` loops, where loop variables shadow these names."""
        base, path = _unwind(expr)
        match base.kind:
            case _Kind.IDENT:
                self._mention(_first(base.data, 1).decode(), path, shadowed, depth)
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
            case _Kind.CONST | _Kind.SELECT:  # _unwind never stops at a select
                pass

    def _mention(self, name: str, path: Path, shadowed: frozenset[str], depth: int) -> None:
        if name in shadowed:
            return
        # A leading dot names the variable itself, even where a loop variable has the same name.
        self.analysis.paths.setdefault(name.removeprefix("."), set()).add(path)
        self.analysis.outer += depth > 0

    def _call(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        function = _first(data, 2).decode()
        parts = [_expr(part) for part in (*_all(data, 1), *_all(data, 3))]
        if function == "matches":
            pattern = _string(parts[-1])
            self.analysis.matches = True
            if depth or pattern is None or _LARGE_PATTERN.search(pattern):
                self.analysis.large_pattern = True
        elif function == "_+_" and not depth:
            self.analysis.joins = True
        for part in parts:
            self.visit(part, shadowed, depth)

    def _comprehension(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        self.analysis.loops += 1
        self.analysis.nested |= depth > 0
        names = {_first(data, number).decode() for number in (1, 3, 8) if _all(data, number)}
        start = _expr(_first(data, 4))
        self.analysis.building += start.kind is _Kind.LIST
        for outside in (_expr(_first(data, 2)), start):
            self.visit(outside, shadowed, depth)
        for inside in (_first(data, 5), _first(data, 6)):
            self.visit(_expr(inside), shadowed | names, depth + 1)
        self.visit(_expr(_first(data, 7)), shadowed | names, depth)


def _unwind(expr: _Expr) -> tuple[_Expr, Path]:
    """Splits a chain of field accesses: `body.a["b"]` into `body` and (a, b)."""
    path: list[str] = []
    while True:
        if expr.kind is _Kind.SELECT:
            path.append(_first(expr.data, 2).decode())
            expr = _expr(_first(expr.data, 1))
            continue
        if expr.kind is _Kind.CALL and _first(expr.data, 2) == _INDEX.encode():
            operands = [_expr(part) for part in _all(expr.data, 3)]
            name = _string(operands[1])
            if name is not None:
                path.append(name)
                expr = operands[0]
                continue
        return expr, tuple(reversed(path))


def _string(expr: _Expr) -> str | None:
    """The value of a string literal; None for any other expression."""
    texts = _all(expr.data, 6) if expr.kind is _Kind.CONST else []
    return texts[0].decode() if texts else None


def _expr(data: bytes) -> _Expr:
    for number, value in _fields(data):
        if number >= _Kind.CONST:
            return _Expr(_Kind(number), value)
    raise LookupError("an expression without a kind")


def _first(data: bytes, number: int) -> bytes:
    return _all(data, number)[0]


def _all(data: bytes, number: int) -> list[bytes]:
    return [value for field_number, value in _fields(data) if field_number == number]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields field numbers and values: a varint as its bytes, a fixed-width number as b""."""
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
                    raise LookupError("a field ends after its message")
                yield tag >> 3, data[at : at + length]
                at += length
            case 5:
                at += 4
                yield tag >> 3, b""
            case wire_type:
                raise LookupError(f"unexpected wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
