"""Explains a condition on a sample: the value of each part, and the fields that the part reads."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from waitd.probes.cel.ast import Path
from waitd.probes.cel.expressions import CelEnvironment

#: Strings, brackets and the operators between the parts of a condition.
_TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|&&|\|\||[][(){}?]""")


class Missing(NamedTuple):
    """A field that the sample does not have, and those that it has beside it."""

    beside: tuple[str, ...]


class Part(NamedTuple):
    """One part of a condition, between its `&&` and `||`.

    Attributes:
        value: its value, or an `ErrorValue`.
        saw: the fields that it reads, by name, with their values.
    """

    source: str
    value: Any
    saw: Mapping[str, Any]


def explain(environment: CelEnvironment, source: str, variables: Any) -> list[Part]:
    """Evaluates a condition as a whole, then each of its parts.

    Raises:
        ValueError: it does not compile.
    """
    parts = [_part(environment, source, variables)]
    pieces = list(split(source))
    return parts + [_part(environment, piece, variables) for piece in pieces if pieces != [source]]


def split(source: str) -> Iterator[str]:
    """Yields the parts of a condition between its `&&` and `||`, also those in parentheses."""
    depth, start, cuts = 0, 0, []
    for token in _TOKEN.finditer(source):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif not depth and token[0] == "?":
            yield source
            return
        elif not depth and token[0] in ("&&", "||"):
            cuts.append(source[start : token.start()].strip())
            start = token.end()
    last = source[start:].strip()
    if cuts:
        for piece in (*cuts, last):
            yield from split(piece)
    elif last.startswith("(") and _closes_last(last):
        yield from split(last[1:-1])
    else:
        yield last


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last character."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if not depth and token[0] in ")]}":
            return token.end() == len(text)
    return False


def _part(environment: CelEnvironment, source: str, variables: Any) -> Part:
    expression = environment.compile(source)
    saw = {
        ".".join((name, *path)): _look_up(getattr(variables, name), path)
        for name, paths in expression.paths.items()
        for path in sorted(paths)
    }
    return Part(source, expression.evaluate(variables), saw)


def _look_up(value: Any, path: Path) -> Any:
    for field in path:
        if not isinstance(value, dict):
            return Missing(())
        if field not in value:
            return Missing(tuple(map(str, value)))
        value = value[field]
    return value
