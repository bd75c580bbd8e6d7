"""Reads in the tree of a compiled CEL expression which fields it names and what it costs.

The serialized form is a `cel.expr.CheckedExpr` inside a `google.protobuf.Any`. Its wire format is
stable and small, so this module parses it without depending on protobuf. Field numbers are those of
cel-spec's `syntax.proto` and `checked.proto`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

#: The index operator. With a literal string it is a field access: `body["a"]` is `body.a`.
_INDEX = "_[_]"
#: Repetition counts and Unicode classes make a large automaton of a short pattern.
_LARGE_PATTERN = re.compile(r"\{|\\[pP]")
#: The methods of timestamps whose argument is a time zone.
_TIME_ZONE_METHODS = re.compile(
    r"get(FullYear|Month|Date|DayOf(Month|Week|Year)|Hours|Minutes|(Millis|S)econds)"
)
#: A name of the IANA database, or an offset. CEL opens a file with the name, so a path is refused.
_TIME_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*|[+-]?[0-9]{2}:[0-9]{2}")

#: The functions that match regular expressions; the pattern is their first argument.
_PATTERNS = frozenset(("matches", "find", "findAll"))
#: The functions of `waitd.probes.cel.functions`. Each takes more than a look at its input.
# fmt: off
_FUNCTIONS = frozenset((
    "charAt", "find", "findAll", "format", "indexOf", "isSorted", "join", "lastIndexOf", "lowerAscii",
    "max", "min", "quote", "replace", "reverse", "split", "strings.quote", "substring", "sum", "trim",
    "upperAscii",
))
# fmt: on
#: A function costs this many units for each byte of its input when a loop calls it, and `findAll`
#: always.
_LOOP_FACTOR = 8


#: The field of a literal that holds bytes.
_BYTES = 7


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


class Literal(NamedTuple):
    """A literal's value. The wrapper tells the literal `null` from no literal at all."""

    value: str | int | bool | None


class Node(NamedTuple):
    """One node of an expression's syntax tree, still serialized."""

    kind: _Kind
    data: bytes

    @property
    def call(self) -> tuple[str, list["Node"]]:
        """The called function by CEL's name (`_==_`, `@in`), and its arguments; else ("", [])."""
        if self.kind is not _Kind.CALL or _all(self.data, 1):  # a method's receiver
            return "", []
        return _first(self.data, 2).decode(), [_node(part) for part in _all(self.data, 3)]

    @property
    def method(self) -> tuple[str, "Node"] | None:
        """The method called without arguments, and its receiver; None for any other node."""
        if self.kind is not _Kind.CALL or _all(self.data, 3):
            return None
        receivers = _all(self.data, 1)
        return (_first(self.data, 2).decode(), _node(receivers[0])) if receivers else None

    @property
    def reference(self) -> tuple[str, Path] | None:
        """The variable and the field path that the node names; None if it is not a field access."""
        base, path = _unwind(self)
        return (_first(base.data, 1).decode().removeprefix("."), path) if base.kind is _Kind.IDENT else None

    @property
    def literal(self) -> Literal | None:
        """The value of a literal string, int, bool or null; None for any other node."""
        if self.kind is not _Kind.CONST:
            return None
        for number, value in _fields(self.data):
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
        if self.kind is not _Kind.LIST:
            return None
        texts = [_string(_node(element)) for element in _all(self.data, 1)]
        strings = [text for text in texts if text is not None]
        return strings if len(strings) == len(texts) else None


@dataclass(slots=True)
class ExpressionAnalysis:
    """Which fields an expression names, and what makes it costly.

    Attributes:
        paths: for each variable that it names, the field paths below it; () is the whole variable.
        loops: the number of comprehensions.
        nested: whether one comprehension runs inside another.
        building: the number of loops that build a list, which this CEL does in quadratic time.
        outer: mentions of variables inside loops, which are converted once per element.
        growth: how many times larger than its input the list may be that its loops build one from
            the other: each may name an element several times.
        joins: whether it adds or concatenates outside a loop, or puts values into a list or map.
        matches: whether it matches a regular expression.
        large_pattern: whether a pattern may be large, is not a literal, or is matched in a loop.
        inflation: how many times larger than its input the strings may be that its functions build;
            0: it calls no function of `waitd.probes.cel.functions`.
        unbounded: whether a string may be built whose size no literal bounds.
        splits: whether it makes lists of strings.
        unknown_zone: whether a time zone is not a literal, or not the name of one.
        formats: whether it calls `format`, which writes bytes into a string as they are.
        raw_bytes: whether it may have bytes that are not UTF-8.
    """

    paths: dict[str, set[Path]] = field(default_factory=dict)
    loops: int = 0
    nested: bool = False
    building: int = 0
    outer: int = 0
    growth: int = 1
    joins: bool = False
    matches: bool = False
    large_pattern: bool = False
    inflation: int = 0
    unbounded: bool = False
    splits: bool = False
    unknown_zone: bool = False
    formats: bool = False
    raw_bytes: bool = False
    _mentions: int = 0

    def visit(self, node: Node, shadowed: frozenset[str], depth: int) -> None:
        """Adds a node inside `depth` loops, where loop variables shadow these names."""
        base, path = _unwind(node)
        match base.kind:
            case _Kind.IDENT:
                self._mention(_first(base.data, 1).decode(), path, shadowed, depth)
            case _Kind.COMPREHENSION:
                self._comprehension(base.data, shadowed, depth)
            case _Kind.CALL:
                self._call(base.data, shadowed, depth)
            case _Kind.LIST:
                self._elements(_all(base.data, 1), shadowed, depth)
            case _Kind.STRUCT:
                self.raw_bytes |= any(name.endswith(b"protobuf.Any") for name in _all(base.data, 1))
                parts = ((*_all(entry, 3), *_all(entry, 4)) for entry in _all(base.data, 2))
                self._elements([part for entry in parts for part in entry], shadowed, depth)
            case _Kind.CONST:
                texts = _all(base.data, _BYTES)
                self.raw_bytes |= any(text.decode(errors="ignore").encode() != text for text in texts)
            case _Kind.SELECT:  # _unwind never stops at a select
                pass

    def _mention(self, name: str, path: Path, shadowed: frozenset[str], depth: int) -> None:
        if name in shadowed:
            self._mentions += 1
            return
        # A leading dot names the variable itself, even where a loop variable has the same name.
        self.paths.setdefault(name.removeprefix("."), set()).add(path)
        self.outer += depth > 0

    def _elements(self, parts: Sequence[bytes], shadowed: frozenset[str], depth: int) -> None:
        nodes = [_node(part) for part in parts]
        self.joins |= not depth and any(node.kind is not _Kind.CONST for node in nodes)
        for node in nodes:
            self.visit(node, shadowed, depth)

    def _call(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        function = _first(data, 2).decode()
        receiver, arguments = _all(data, 1), _all(data, 3)
        parts = [_node(part) for part in (*receiver, *arguments)]
        if receiver and arguments and _TIME_ZONE_METHODS.fullmatch(function):
            zone = _string(parts[-1])
            self.unknown_zone |= zone is None or _TIME_ZONE.fullmatch(zone) is None
        if function in _PATTERNS:
            pattern = _string(parts[1] if len(parts) > 1 else parts[-1])
            self.matches = True
            self.large_pattern |= depth > 0 or pattern is None or bool(_LARGE_PATTERN.search(pattern))
        elif function == "_+_" and not depth:
            self.joins = True
        for part in parts:
            self.visit(part, shadowed, depth)
        if function in _FUNCTIONS:
            self._extension(function, parts, depth)

    def _extension(self, function: str, parts: Sequence[Node], depth: int) -> None:
        """Notes a call of a function that `functions` adds, whose parts were visited."""
        self.joins = True
        factor = _LOOP_FACTOR if depth else 1
        texts = [_string(part) for part in parts]
        match function:
            case "split":
                self.splits = True
            case "findAll":
                self.splits = True
                factor *= _LOOP_FACTOR
            case "replace" if len(parts) > 2:
                self.unbounded |= texts[2] is None
                factor *= len(texts[2] or "") + 1
            case "join":
                # Strings from outside a loop may have been put into a list once per element.
                self.unbounded |= self.outer > 0 or (len(parts) > 1 and texts[1] is None)
                factor *= len(texts[-1] or "") + 1
            case "format":
                self.formats = True
                self.unbounded |= texts[0] is None
                factor *= 4
            case "quote" | "strings.quote":
                factor *= 2
        self.inflation = max(1, self.inflation) * factor

    def _comprehension(self, data: bytes, shadowed: frozenset[str], depth: int) -> None:
        self.loops += 1
        self.nested |= depth > 0
        names = {_first(data, number).decode() for number in (1, 3, 8) if _all(data, number)}
        start = _node(_first(data, 4))
        builds = start.kind is _Kind.LIST
        self.building += builds
        for outside in (_node(_first(data, 2)), start):
            self.visit(outside, shadowed, depth)
        self._mentions = 0
        for inside in (_first(data, 5), _first(data, 6)):
            self.visit(_node(inside), shadowed | names, depth + 1)
        # One mention is that of the list being built.
        self.growth *= max(1, self._mentions - 1) if builds else 1
        self.visit(_node(_first(data, 7)), shadowed | names, depth)


def analyze(serialized: bytes) -> ExpressionAnalysis:
    """Analyzes the result of `Expression.serialize()`.

    Raises:
        ValueError: the bytes are not a serialized expression.
    """
    analysis = ExpressionAnalysis()
    try:
        analysis.visit(root_node(serialized), frozenset(), 0)
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError("not a serialized CEL expression") from error
    return analysis


def root_node(serialized: bytes) -> "Node":
    """Returns the topmost node of an expression that `analyze` accepts."""
    return _node(_first(_first(serialized, 2), 4))


def _unwind(node: Node) -> tuple[Node, Path]:
    """Splits a chain of field accesses: `body.a["b"]` into `body` and (a, b)."""
    path: list[str] = []
    while True:
        if node.kind is _Kind.SELECT:
            path.append(_first(node.data, 2).decode())
            node = _node(_first(node.data, 1))
            continue
        if node.kind is _Kind.CALL and _first(node.data, 2) == _INDEX.encode():
            operands = [_node(part) for part in _all(node.data, 3)]
            name = _string(operands[1])
            if name is not None:
                path.append(name)
                node = operands[0]
                continue
        return node, tuple(reversed(path))


def _string(node: Node) -> str | None:
    """The value of a string literal; None for any other expression."""
    texts = _all(node.data, 6) if node.kind is _Kind.CONST else []
    return texts[0].decode() if texts else None


def _node(data: bytes) -> Node:
    for number, value in _fields(data):
        if number >= _Kind.CONST:
            return Node(_Kind(number), value)
    raise LookupError("an expression without a kind")


def _first(data: bytes, number: int) -> bytes:
    return _all(data, number)[0]


def _all(data: bytes, number: int) -> list[bytes]:
    return [value for field_number, value in _fields(data) if field_number == number]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields field numbers and values, each as its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        start = at
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, start = _varint(data, at)
                at = start + length
            case 5:
                at += 4
            case wire_type:
                raise LookupError(f"unexpected wire type {wire_type}")
        if at > len(data):
            raise LookupError("a field ends after its message")
        yield tag >> 3, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
