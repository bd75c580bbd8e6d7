"""Evaluates conditions on the rows of a query: in the loop where that is cheap, else in a worker.

Workers import this module, so it imports no database driver.
"""

from types import SimpleNamespace

import orjson
from anyio import CapacityLimiter

from waitd.core.http.answer import RESULT_OMITTED
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Verdict
from waitd.probes.cel.evaluation import RESULT_LIMIT, evaluate_message, evaluate_payload
from waitd.probes.cel.expressions import (
    INLINE_COST,
    CelEnvironment,
    ConditionSources,
    ErrorValue,
    Type,
    replace_json_nul,
)
from waitd.probes.cel.workers import run_in_worker
from waitd.probes.sql.rows import SelectedRows

ROWS_ENV = CelEnvironment({"rows": Type.List(Type.Map(Type.STRING, Type.DYN))})


def evaluate_rows(conditions: ConditionSources, selected: SelectedRows) -> Verdict:
    """Returns the verdict on rows. Without `success_when` the first cell decides."""
    rows = list(selected.rows)
    raw = orjson.dumps(rows)
    readable = replace_json_nul(raw)
    variables = SimpleNamespace(
        rows=rows if readable is raw else orjson.loads(readable),
        raw=raw,
        payload=lambda: (orjson.loads(raw), True),
    )
    count, note = f"{len(rows)} row{'' if len(rows) == 1 else 's'}", ""
    decided: type[Success | Failure] | None = None
    for verdict, name, source in (
        (Failure, "failure_when", conditions.failure_when),
        (Success, "success_when", conditions.success_when),
    ):
        if source is None:
            continue
        value = ROWS_ENV.compile(source).evaluate(variables)
        if value is True:
            decided = verdict
            break
        if value is not False:
            note = f"; {name}: {value if isinstance(value, ErrorValue) else 'not a boolean'}"
    if decided is None and conditions.success_when is None and selected.first_is_true:
        decided = Success
    source = conditions.message
    message = None if source is None else evaluate_message(ROWS_ENV.compile(source), variables)
    if decided is None:
        return Pending("pending" if rows else "no_rows", (message or f"{count}{note}")[:MESSAGE_LIMIT])
    result = None if conditions.result is None else ROWS_ENV.compile(conditions.result)
    payload, omitted = evaluate_payload(result, variables)
    reason = RESULT_OMITTED if omitted else "success" if decided is Success else "failure"
    if decided is Success:
        return Success(payload, reason, message or count)
    return Failure(reason, message or f"failure_when: {count}", payload)


async def evaluate(conditions: ConditionSources, selected: SelectedRows, limiter: CapacityLimiter) -> Verdict:
    """Returns the same as `evaluate_rows`, from a worker if the rows are large.

    The caller sets the time limit.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: an expression needed more memory than a worker has.
    """
    expressions = [ROWS_ENV.compile(source) for source in conditions if source is not None]
    cells = sum(len(row) for row in selected.rows)
    cost = sum(each.cost(selected.size, cells + selected.size // 4) for each in expressions)
    if cost <= INLINE_COST and selected.size <= RESULT_LIMIT:
        return evaluate_rows(conditions, selected)
    return await run_in_worker(evaluate_rows, conditions, selected, limiter=limiter)
