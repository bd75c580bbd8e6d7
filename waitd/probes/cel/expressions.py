"""CEL expressions: compiled once, bounded in what they may cost, given only the values that they name.

CEL here is Google's own implementation (`cel-expr-python`). It converts everything it is handed before it looks at it, and some of what
one can write in it takes quadratic time or a large automaton; so an expression carries an estimate of its cost, by which the caller
decides where to evaluate it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no types

from waitd.probes.cel.ast import Path, Survey, survey, tree
from waitd.probes.cel.fast_path import Plain, plain

#: The longest expression, in bytes.
MAX_SOURCE = 1024
#: What may be evaluated in the event loop, in the units of `Expression.cost`, each about 20 ns: 5 ms.
INLINE_COST = 256 * 1024
#: The cost of what is never evaluated in the event loop.
UNBOUNDED = 1 << 62

Type = cel.Type

_PLACED = re.compile(r"<input>:(\d+):(\d+): (.*)")

#: A variable's value cut down to what is named of it: field by field, None for the whole.
Tree = dict[str, Any] | None


class Trouble(str):
    """Why an expression has no value, in a few words."""

    __slots__ = ()


class Language:
    """The variables that the expressions of one kind may name, with their types."""

    def __init__(self, variables: Mapping[str, cel.Type]) -> None:
        self.variables = tuple(variables)
        self._env = cel.NewEnv(variables=dict(variables))
        #: Compiled expressions by text; those of a hundred thousand waits are mostly the same few.
        self.compile = lru_cache(maxsize=4096)(self._compile)

    def _compile(self, source: str) -> "Expression":
        """The compiled expression.

        Raises:
            ValueError: says what is wrong, as `line:column: …` where that is known.
        """
        _check_text(source)
        try:
            compiled = self._env.compile(source)
        except RuntimeError as error:
            raise ValueError(_explained(str(error))) from None
        serialized = compiled.serialize()
        seen = survey(serialized)
        if seen.nested:
            raise ValueError("a comprehension (all, exists, map, filter, …) inside another is not allowed")
        return Expression(source, compiled, seen, plain(tree(serialized)))


class Expression:
    """One compiled expression.

    Attributes:
        source: its text.
        names: the variables that it mentions.
        type_name: what it evaluates to, as CEL writes types: BOOL, STRING, DYN, …
        without_cel: evaluates it where it is simple; None of it where it cannot tell; None: it is not simple.
    """

    __slots__ = ("_compiled", "_survey", "_trees", "names", "source", "type_name", "without_cel")

    def __init__(
        self, source: str, compiled: cel.Expression, seen: Survey, without_cel: Plain | None
    ) -> None:
        self._compiled = compiled
        self.without_cel = without_cel
        self.source = source
        self._survey = seen
        self._trees: Final = tuple((name, _tree(paths)) for name, paths in seen.paths.items())
        self.names = frozenset(seen.paths)
        self.type_name = compiled.return_type().name()

    def evaluate(self, variables: Any) -> Any:
        """The value, or `Trouble`. `variables` has an attribute for each variable; only what is named is asked of it."""
        if self.without_cel is not None:
            known = self.without_cel(variables)
            if known is not None:
                return known
        data = {name: pruned(getattr(variables, name), tree) for name, tree in self._trees}
        try:
            value = self._compiled.eval(data=data)
        except RuntimeError as error:  # the iteration budget, or text that is no Unicode
            return Trouble(_plain(str(error)))
        plain = value.value()
        if (
            plain is True or plain is False
        ):  # by far the most frequent; asking for the type costs as much again
            return plain
        if value.type() == cel.Type.ERROR:
            return Trouble(_plain(str(plain)))
        return value.plain_value()

    def weight(self, variables: Any, whole: int) -> int:
        """How much it is handed, in bytes: the text of strings, and `whole` for each list or map."""
        return sum(_weight(getattr(variables, name), tree, whole) for name, tree in self._trees)

    def cost(self, weight: int, items: int) -> int:
        """An upper estimate of the work of one evaluation.

        Args:
            weight: what it is handed, in bytes.
            items: the most elements that a list or map among it can have.
        """
        seen, length = self._survey, len(self.source)
        if seen.large_pattern:
            return UNBOUNDED
        total = weight * length // (1 if seen.loops or seen.joins or seen.matches else 16)
        elements = items + length // 2  # a list may stand in the expression itself
        total += seen.building * elements * elements
        total += seen.outer * elements * (weight + length)
        return total


def pruned(value: Any, tree: Tree) -> Any:
    """`value` without the fields that `tree` does not name. What has no fields comes as None: reading a field of it fails either way."""
    if tree is None:
        return value
    if not isinstance(value, dict):
        return None
    return {name: pruned(value[name], below) for name, below in tree.items() if name in value}


def _weight(value: Any, tree: Tree, whole: int) -> int:
    if tree is not None:
        if not isinstance(value, dict):
            return 0
        return sum(_weight(value[name], below, whole) for name, below in tree.items() if name in value)
    if isinstance(value, str):
        return len(value)
    return whole if isinstance(value, (dict, list)) else 8


def _tree(paths: set[Path]) -> Tree:
    """The named paths as a tree; a field that is named as a whole swallows its parts."""
    if () in paths:
        return None
    below: dict[str, set[Path]] = {}
    for first, *rest in paths:
        below.setdefault(first, set()).add(tuple(rest))
    return {name: _tree(parts) for name, parts in below.items()}


def _check_text(source: str) -> None:
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        raise ValueError("it is no Unicode text") from None
    if size > MAX_SOURCE:
        raise ValueError(f"it has {size} bytes; {MAX_SOURCE} are allowed")
    if "\0" in source:
        raise ValueError("it has a NUL character")


def _explained(error: str) -> str:
    """The compiler's own words, each with its line and column, without the drawing."""
    found = [f"{line}:{column}: {text}" for line, column, text in _PLACED.findall(error)]
    return "; ".join(found[:3]) if found else _plain(error)


def _plain(error: str) -> str:
    """`NOT_FOUND: Key not found in map : "b"` without the code before it and after it, in one line."""
    text = re.sub(r"^[A-Z_]+: (ERROR: <input>:-1:-1: )?| \[[A-Z_]+\]$", "", error.strip())
    return " ".join(text.split())[:120]
