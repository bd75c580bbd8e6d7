"""Compiles CEL expressions, estimates their cost, and evaluates them on the fields they name.

The implementation is Google's `cel-expr-python`. It converts every value that it is given before it
evaluates anything, and some expressions take quadratic time or a large automaton. So an expression
carries an estimate of its cost, by which callers decide where to evaluate it.
"""

import ctypes
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no types

from waitd.core.errors import Problem
from waitd.probes.cel.ast import ExpressionAnalysis, Path, analyze, root_node
from waitd.probes.cel.fast_path import FastEvaluator, compile_fast
from waitd.probes.cel.functions import new_environment
from waitd.probes.cel.hints import hint

#: The longest expression, in bytes.
MAX_SOURCE = 1024
#: The most that is evaluated in the event loop, in the units of `Expression.cost`: 5 ms, at about
#: 20 ns each.
INLINE_COST = 256 * 1024
#: The cost of an expression that is never evaluated in the event loop.
UNBOUNDED = 1 << 62
#: Loops may make their input this many times larger in the event loop.
_MAX_GROWTH = 64

Type = cel.Type

#: An escaped NUL, after any number of escaped backslashes.
_JSON_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_LOCATED_ERROR = re.compile(r"<input>:(\d+):(\d+): (.*)")

#: The fields that an expression names of a value, as a tree; None stands for the whole value.
FieldTree = dict[str, Any] | None


_count_reference = ctypes.pythonapi.Py_IncRef
_count_reference.argtypes = [ctypes.py_object]
_count_reference.restype = None


class ErrorValue(str):
    """The value of an expression whose evaluation failed: the reason, in a few words."""

    __slots__ = ()


class ConditionSources(NamedTuple):
    """The source text of a wait's conditions; None for each that it does not have."""

    success_when: str | None = None
    failure_when: str | None = None
    message: str | None = None
    result: str | None = None


#: What a condition evaluates to; `result` may have any type.
_CONDITION_TYPES = {"success_when": "BOOL", "failure_when": "BOOL", "message": "STRING"}


class CelEnvironment:
    """The variables that expressions may name, with their types."""

    def __init__(self, variables: Mapping[str, cel.Type]) -> None:
        self._env = new_environment(variables)
        self._variables = tuple(variables)
        #: Cached by source: a hundred thousand waits mostly share a few expressions.
        self.compile = lru_cache(maxsize=4096)(self._compile)

    def _compile(self, source: str) -> "Expression":
        """Compiles an expression.

        Raises:
            ValueError: says what is wrong, as `line:column: …` where that is known.
        """
        _check_text(source)
        try:
            compiled = self._env.compile(source)
            serialized, type_name = compiled.serialize(), compiled.return_type().name()
        except RuntimeError as error:
            raise ValueError(f"{_compile_errors(str(error))}; {self._hint(source)}") from None
        analysis = analyze(serialized)
        if analysis.nested:
            raise ValueError(
                "comprehensions (all, exists, map, filter, …) cannot be nested; use one per expression"
            )
        if analysis.unknown_zone:
            raise ValueError("a time zone must be a literal such as 'Europe/Berlin' or '+02:00'")
        if analysis.formats and analysis.raw_bytes:  # the binding crashes on a string that is not UTF-8
            raise ValueError(
                "format() takes no bytes that are not UTF-8; write them with escapes in a string"
            )
        names = analysis.paths.keys()
        # Types and enum values are names, too: CEL knows their values.
        root = root_node(serialized)
        fast_path = compile_fast(root) if names <= set(self._variables) else None
        name, field = root.reference or (None, ())
        analysis.paths = {name: analysis.paths[name] for name in names & set(self._variables)}
        return Expression(
            source, compiled, type_name, analysis, fast_path, body_field=field if name == "body" else None
        )

    def _hint(self, source: str) -> str:
        return hint(source, self._variables, self._compiles)

    def _compiles(self, source: str) -> bool:
        try:
            self._env.compile(source)
        except RuntimeError:
            return False
        return True

    def problem(self, source: str, expected: str | None = None) -> str | None:
        """Returns what is wrong with an expression, or None.

        `expected` is the type that it must evaluate to.

        The type DYN is accepted: the value is then known only at evaluation.
        """
        try:
            type_name = self.compile(source).type_name
        except ValueError as error:
            return str(error)
        if expected is None or type_name in {expected, "DYN"}:
            return None
        return f"1:1: this expression evaluates to {type_name}; it must evaluate to {expected}"

    def condition_problems(self, sources: ConditionSources) -> Iterator[Problem]:
        """Yields what is wrong with a wait's conditions, with pointers relative to its `params`."""
        for name, source in sources._asdict().items():
            detail = None if source is None else self.problem(source, _CONDITION_TYPES.get(name))
            if detail is not None:
                yield Problem(f"/{name}", detail)


class Expression:
    """One compiled expression.

    Attributes:
        source: its text.
        names: the variables that it names.
        type_name: the type that it evaluates to, by CEL's name: BOOL, STRING, DYN, …
        fast_path: evaluates it without CEL, see `waitd.probes.cel.fast_path`; None if it cannot.
        body_field: the path of the field of `body` that it is; None if it is anything else.
    """

    __slots__ = (
        "_analysis",
        "_compiled",
        "_trees",
        "body_field",
        "fast_path",
        "names",
        "source",
        "type_name",
    )

    def __init__(
        self,
        source: str,
        compiled: cel.Expression,
        type_name: str,
        analysis: ExpressionAnalysis,
        fast_path: FastEvaluator | None,
        *,
        body_field: Path | None = None,
    ) -> None:
        self.source = source
        self.fast_path = fast_path
        self.body_field = body_field
        self._compiled = compiled
        self._analysis = analysis
        self._trees: Final = tuple((name, _field_tree(paths)) for name, paths in analysis.paths.items())
        self.names = frozenset(analysis.paths)
        self.type_name = type_name

    @property
    def paths(self) -> Mapping[str, set[Path]]:
        """The field paths that it names, by variable; () is the whole variable."""
        return self._analysis.paths

    def evaluate(self, variables: Any) -> Any:
        """Returns the value, or an `ErrorValue`.

        `variables` has an attribute for each variable; only those that the expression names are
        read.
        """
        if self.fast_path is not None:
            decided = self.fast_path(variables)
            if decided is not None:
                return decided
        data = {name: prune(getattr(variables, name), tree) for name, tree in self._trees}
        try:
            result = self._compiled.eval(data=data)
            value = result.value()
            if value is True or value is False:  # most are; asking for the type costs as much again
                return value
            if value is None:
                return _with_references_to_nulls(None)
            if result.type() == cel.Type.ERROR:
                return ErrorValue(_one_line(str(value)))
            return _with_references_to_nulls(result.plain_value())
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - also the iteration budget, and values CEL does not know
            return ErrorValue(_one_line(str(error)))

    def weight(self, variables: Any, container: int) -> int:
        """The size in bytes of what it names: a string's length, `container` for a list or map."""
        return sum(_weight(getattr(variables, name), tree, container) for name, tree in self._trees)

    def cost(self, weight: int, items: int) -> int:
        """Returns an upper estimate of the work of one evaluation.

        Args:
            weight: the size of its input, in bytes.
            items: the most elements that a list or map in the input can have.
        """
        analysis, length = self._analysis, len(self.source)
        if analysis.large_pattern or analysis.unbounded or analysis.growth > _MAX_GROWTH:
            return UNBOUNDED
        if analysis.inflation:
            weight = (weight + length) * analysis.inflation
            items += weight if analysis.splits else 0
        total = weight * length // (1 if analysis.loops or analysis.joins or analysis.matches else 16)
        elements = items + length // 2  # the expression itself may contain a list
        total += analysis.building * elements * elements
        total += analysis.outer * elements * (weight + length)
        return total


def _with_references_to_nulls(value: Any) -> Any:
    """Returns a value from CEL's binding, with the references to `None` that it lacks.

    The binding returns `None` for each null without counting a reference. Before Python 3.12, where
    `None` is immortal, the interpreter would end when these have used up all the others.
    """
    unseen = [value]
    while unseen:
        item = unseen.pop()
        if item is None:
            _count_reference(None)
        elif isinstance(item, list):
            unseen += item
        elif isinstance(item, dict):
            unseen += item.values()
    return value


def prune(value: Any, tree: FieldTree) -> Any:
    """Returns `value` with only the fields in `tree`.

    A value without fields becomes None: reading a field of either is an error.
    """
    if tree is None:
        return value
    if not isinstance(value, dict):
        return None
    return {name: prune(value[name], below) for name, below in tree.items() if name in value}


def _weight(value: Any, tree: FieldTree, container: int) -> int:
    if tree is not None:
        if not isinstance(value, dict):
            return 0
        return sum(_weight(value[name], below, container) for name, below in tree.items() if name in value)
    if isinstance(value, str):
        return len(value)
    return container if isinstance(value, (dict, list)) else 8


def _field_tree(paths: set[Path]) -> FieldTree:
    """Merges field paths into a tree.

    A path to a whole field makes the paths below it superfluous.
    """
    if () in paths:
        return None
    below: dict[str, set[Path]] = {}
    for first, *rest in paths:
        below.setdefault(first, set()).add(tuple(rest))
    return {name: _field_tree(parts) for name, parts in below.items()}


def replace_nul(text: str) -> str:
    """Replaces NUL characters, at which CEL's binding would cut the text off."""
    return text.replace("\0", "\ufffd")


#: What JSON with a NUL character in a string contains.
JSON_NUL = b"\\u0000"
#: Bytes are searched for an integer at a third of the cost of a search for bytes.
BACKSLASH = ord("\\")


def replace_json_nul(encoded: bytes) -> bytes:
    """Returns JSON whose strings have no NUL characters; see `replace_nul`."""
    return _JSON_NUL.sub(rb"\1\\ufffd", encoded) if JSON_NUL in encoded else encoded


def _check_text(source: str) -> None:
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        raise ValueError("the expression is not valid Unicode; remove its lone surrogates") from None
    if size > MAX_SOURCE:
        raise ValueError(f"the expression has {size} bytes; at most {MAX_SOURCE} are allowed")
    if "\0" in source:
        raise ValueError("the expression has a NUL character; remove it")


def _compile_errors(error: str) -> str:
    """The compiler's messages with their lines and columns, without its drawing of the source."""
    messages = [f"{line}:{column}: {text}" for line, column, text in _LOCATED_ERROR.findall(error)]
    return "; ".join(messages[:3]) if messages else _one_line(error)


def _one_line(error: str) -> str:
    """CEL's message on one line, without status codes: `Key not found in map : "b"`."""
    text = re.sub(r"^[A-Z_]+: |ERROR: <input>:-1:-1: | \[[A-Z_]+\]$", "", error.strip())
    return " ".join(text.split())[:120]
