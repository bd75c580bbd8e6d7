"""`check`: a CEL expression over `files`, asked in the loop where that is cheap, else in a worker process.

The worker imports this file and no client: keep it cheap to import.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.probes.cel.expressions import INLINE_COST, Language, Trouble, Type
from waitd.probes.cel.workers import apart

File = Mapping[str, Any]

LANGUAGE = Language({"files": Type.List(Type.Map(Type.STRING, Type.DYN))})
#: Bytes that a file's metadata are reckoned with beside its key: sizes, times and tags are short.
_PER_FILE = 160


class _Variables:
    __slots__ = ("files",)

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files


class TooHeavy(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """The check needs more time or memory than there is."""


def problem(source: str) -> str | None:
    """What is wrong with a check, with line and column; None where it is fine."""
    try:
        type_name = LANGUAGE.compile(source).type_name
    except ValueError as error:
        return str(error)
    if type_name not in {"BOOL", "DYN"}:
        return f"1:1: it evaluates to {type_name}, BOOL is needed"
    return None


def check(source: str, files: Sequence[File]) -> str | None:
    """None where the check is true, else what it said instead, in a few words."""
    value = LANGUAGE.compile(source).evaluate(_Variables(files))
    if value is True:
        return None
    if value is False:
        return "it is false"
    return value if isinstance(value, Trouble) else "it is not a boolean"


async def checked(source: str, files: Sequence[File], limiter: CapacityLimiter) -> str | None:
    """The same as `check`, wherever it is best done. The caller bounds it in time.

    Raises:
        TooHeavy: it took more memory than a worker has.
    """
    expression = LANGUAGE.compile(source)
    variables = _Variables(files)
    size = sum(len(file.get("Key", "")) + _PER_FILE for file in files)
    if expression.cost(expression.weight(variables, size), 5 * len(files)) <= INLINE_COST:
        return check(source, files)
    try:
        told: str | None = await apart(check, source, list(files), limiter=limiter)
    except (BrokenWorkerProcess, MemoryError) as error:
        raise TooHeavy from error
    return None if told is None else str(told)
