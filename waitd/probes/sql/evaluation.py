"""What a wait makes of rows: the first cell, or CEL over `rows`, in the loop where that is cheap, else in a worker process.

The worker imports this file and no database: keep it cheap to import.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from anyio import CapacityLimiter

from waitd.core.http.answer import RESULT_OMITTED
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Verdict
from waitd.probes.cel.evaluation import RESULT_LIMIT, evaluate_message, evaluate_payload
from waitd.probes.cel.expressions import INLINE_COST, CelEnvironment, ErrorValue, Type
from waitd.probes.cel.workers import run_in_worker

Row = Mapping[str, Any]

ROWS_ENV = CelEnvironment({"rows": Type.List(Type.Map(Type.STRING, Type.DYN))})
_WANTED = {"success_when": ("BOOL", "DYN"), "failure_when": ("BOOL", "DYN"), "message": ("STRING", "DYN")}


class ConditionSources(NamedTuple):
    """A wait's conditions as text; None where it has none."""

    success_when: str | None = None
    failure_when: str | None = None
    message: str | None = None
    result: str | None = None

    @property
    def needs_rows(self) -> bool:
        """Whether anything looks beyond the first row."""
        return any(self)


class SelectedRows(NamedTuple):
    """Rows as conditions see them.

    Attributes:
        size: theirs as JSON, in bytes.
        first_is_true: whether the first cell of the first one is.
        cut: there are more rows.
    """

    rows: Sequence[Row]
    size: int
    first_is_true: bool
    cut: bool = False


def problem(name: str, source: str) -> str | None:
    """What is wrong with an expression, with line and column; None where it is fine."""
    try:
        type_name = ROWS_ENV.compile(source).type_name
    except ValueError as error:
        return str(error)
    wanted = _WANTED.get(name)
    if wanted is not None and type_name not in wanted:
        return f"1:1: it evaluates to {type_name}, {wanted[0]} is needed"
    return None


class _Variables:
    """What `evaluate_payload` and expressions ask for."""

    __slots__ = ("raw", "rows")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.raw = orjson.dumps(self.rows)


def evaluate_rows(sources: ConditionSources, seen: SelectedRows) -> Verdict:
    """What these conditions make of rows."""
    variables, note = _Variables(seen.rows), ""
    count = f"{len(seen.rows)} row{'' if len(seen.rows) == 1 else 's'}"
    decided: type[Success | Failure] | None = None
    for verdict, name, source in (
        (Failure, "failure_when", sources.failure_when),
        (Success, "success_when", sources.success_when),
    ):
        if source is None:
            continue
        value = ROWS_ENV.compile(source).evaluate(variables)
        if value is True:
            decided = verdict
            break
        if value is not False:
            note = f"; {name}: {value if isinstance(value, ErrorValue) else 'not a boolean'}"
    if decided is None and sources.success_when is None and seen.first_is_true:
        decided = Success
    message = None
    if sources.message is not None:
        message = evaluate_message(ROWS_ENV.compile(sources.message), variables)
    if decided is None:
        return Pending("pending" if seen.rows else "no_rows", (message or f"{count}{note}")[:MESSAGE_LIMIT])
    result = None if sources.result is None else ROWS_ENV.compile(sources.result)
    payload, omitted = evaluate_payload(result, variables)
    reason = RESULT_OMITTED if omitted else "success" if decided is Success else "failure"
    if decided is Success:
        return Success(payload, reason, message or count)
    return Failure(reason, message or f"failure_when: {count}", payload)


async def evaluate(sources: ConditionSources, seen: SelectedRows, limiter: CapacityLimiter) -> Verdict:
    """The same as `evaluate_rows`, wherever it is best done. The caller bounds it in time.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: an expression asked for more memory than there is.
    """
    expressions = [ROWS_ENV.compile(source) for source in sources if source is not None]
    cells = sum(len(row) for row in seen.rows)
    cost = sum(each.cost(seen.size, cells + seen.size // 4) for each in expressions)
    if cost <= INLINE_COST and seen.size <= RESULT_LIMIT:
        return evaluate_rows(sources, seen)
    verdict: Verdict = await run_in_worker(evaluate_rows, sources, seen, limiter=limiter)
    return verdict
