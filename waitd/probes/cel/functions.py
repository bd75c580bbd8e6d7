"""The functions that expressions have beside CEL's standard ones, with the names of Kubernetes.

Those of strings are the library's: `lowerAscii`, `trim`, `split`, `replace`, `format`, … Those of
lists and of regular expressions are here. Their cost is estimated in `waitd.probes.cel.ast`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no types
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]  # it ships no types

#: The largest program of a pattern, in RE2's instructions.
_MAX_PROGRAM = 2000
#: The integers of CEL: 64 bits, with a sign.
_MAX_INT = 2**63
#: Besides numbers. CEL's binding takes no timestamp and no duration from a function.
_ORDERED = (bool, str, bytes)


def new_environment(variables: Mapping[str, cel.Type]) -> cel.Env:
    """Returns a CEL environment with these variables and all functions."""
    strings = ext_strings.ExtStrings()
    return cel.NewEnv(variables=dict(variables), extensions=[strings], functions=_lists() + _patterns())


def _lists() -> list[cel.FunctionDecl]:
    return [
        _method(name, cel.Type.List(cel.Type.DYN), (), result, function)
        for name, result, function in (
            ("isSorted", cel.Type.BOOL, _is_sorted),
            ("sum", cel.Type.DYN, _sum),
            ("min", cel.Type.DYN, lambda values: min(_ordered(values, "min"))),
            ("max", cel.Type.DYN, lambda values: max(_ordered(values, "max"))),
        )
    ]


def _patterns() -> list[cel.FunctionDecl]:
    text, texts = cel.Type.STRING, cel.Type.List(cel.Type.STRING)
    find_all = [_overload("findAll", text, (text, *more), texts, _find_all) for more in ((), (cel.Type.INT,))]
    return [_method("find", text, (text,), text, _find), cel.FunctionDecl("findAll", find_all)]


def _method(
    name: str, receiver: cel.Type, arguments: tuple[cel.Type, ...], result: cel.Type, function: Any
) -> cel.FunctionDecl:
    return cel.FunctionDecl(name, [_overload(name, receiver, arguments, result, function)])


def _overload(
    name: str, receiver: cel.Type, arguments: tuple[cel.Type, ...], result: cel.Type, function: Any
) -> cel.Overload:
    return cel.Overload(f"{name}_{len(arguments)}", result, [receiver, *arguments], True, function)


def _ordered(values: Sequence[Any], function: str) -> Sequence[Any]:
    """Returns values that have an order.

    Raises:
        ValueError: there are none, or they are of types that cannot be compared.
    """
    if not values:
        raise ValueError(f"{function}() of an empty list")
    _check_comparable(values, function)
    return values


def _is_sorted(values: Sequence[Any]) -> bool:
    _check_comparable(values, "isSorted")
    return all(first <= second for first, second in pairwise(values))


def _check_comparable(values: Sequence[Any], function: str) -> None:
    numbers = all(type(value) in (int, float) for value in values)
    if not numbers and not any(all(type(value) is kind for value in values) for kind in _ORDERED):
        raise ValueError(f"{function}() of values that cannot be compared")


def _sum(values: Sequence[Any]) -> Any:
    if not all(type(value) in (int, float) for value in values):
        raise ValueError("sum() of values that are not numbers")
    total = sum(values)
    if type(total) is int and not -_MAX_INT <= total < _MAX_INT:
        raise ValueError("sum() exceeds 64 bits")
    return total


def _find(text: str, pattern: str) -> str:
    match = _compiled(pattern).search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit:
        for match in _compiled(pattern).finditer(text):
            found.append(match[0])
            if len(found) == limit:
                break
    return found


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415 - 1 MB that few need; no types

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        raise ValueError("the pattern is not valid in RE2") from None
    if compiled.programsize > _MAX_PROGRAM:
        raise ValueError("the pattern is too large: use fewer or smaller repetitions")
    return compiled
