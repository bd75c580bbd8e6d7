"""Rows of a query: values of every type that the drivers return, judged by conditions."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from fuzzing import Fuzz

from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.sql.evaluation import evaluate_rows
from waitd.probes.sql.rows import MAX_ROWS, QueryResult, row_limit, selected_rows

FLOATS = (0.0, -0.0, 1.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
DECIMALS = (
    "0",
    "1.50",
    "-7",
    "NaN",
    "sNaN",
    "Infinity",
    "-Infinity",
    "1E+131071",
    "1E-16383",
    "9" * 4500,
    "1E+999999",
)
TEXTS = ("", "done", "\0", "\ud7ff\uffff", "é" * 50, "'; --", "\u202e\x1b[31m", "x" * 3000, '{"a": [1, NaN]}')
LEAVES: Sequence[Callable[[Random], Any]] = (
    lambda random: None,
    lambda random: random.random() < 0.5,
    lambda random: random.choice((0, 1, -1, 2**31, -(2**63), 2**63, 2**64 - 1)),
    lambda random: random.choice(FLOATS),
    lambda random: Decimal(random.choice(DECIMALS)),
    lambda random: random.choice(TEXTS),
    lambda random: random.choice((bytes, bytearray, memoryview))(random.randbytes(random.randrange(40))),
    lambda random: random.choice((date.min, date.max, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - a column without time zone
, datetime.now(UTC))),
    lambda random: random.choice((time.min, time.max, time(1, 2, 3, tzinfo=UTC))),
    lambda random: random.choice((timedelta.min, timedelta.max, timedelta(0, 1.5))),
    lambda random: UUID(int=random.getrandbits(128)),
    lambda random: asyncpg.BitString("0110"[: random.randrange(5)]),
    lambda random: asyncpg.Range(1, None),
    lambda random: asyncpg.Range(empty=True),
    lambda random: asyncpg.Box((1, 2), (3, 4)),
    lambda random: asyncpg.Polygon((1, 2), (3, 4), (float("nan"), 1)),
    lambda random: asyncpg.Circle((1, 2), 3),
    lambda random: ip_address(random.getrandbits(32)),
    lambda random: ip_network("10.0.0.0/8"),
    lambda random: frozenset({"a", "b"}),
    lambda random: asyncpg.Path((1, 2), is_closed=True),
)  # fmt: skip
CONDITIONS = (
    ConditionSources(None, None, None, None),
    ConditionSources("rows[0].a == 1", None, None, None),
    ConditionSources("rows.exists(r, r.a == 'done')", "size(rows) > 5", "string(rows[0].a)", "rows.map(r, r.a)"),
    ConditionSources("size(rows) > 0", None, "string(size(rows))", "rows[0]"),
    ConditionSources("rows.all(r, r['b'] != null)", None, None, "{'a': rows}"),
    ConditionSources("rows[0].a > 0.5", "rows[0].a < timestamp('2026-01-01T00:00:00Z')", None, None),
)  # fmt: skip
REASONS = {
    "pending", "no_rows", "success", "failure", "result_omitted",
}  # fmt: skip


def some_value(random: Random, depth: int = 0) -> Any:
    if random.random() < 0.2 and depth < 6:
        elements = [some_value(random, depth + 1) for _ in range(random.randrange(4))]
        return random.choice((list, tuple, lambda each: dict(enumerate(each))))(elements)
    return random.choice(LEAVES)(random)


def some_result(random: Random) -> QueryResult:
    columns = [
        random.choice(("a", "b", "a", "", "?column?", "é\0", "x" * 300)) for _ in range(random.randint(1, 8))
    ]
    count = random.choice((0, 1, 2, 7, MAX_ROWS, MAX_ROWS + 1))
    row = [some_value(random) for _ in columns]
    rows = [row if random.random() < 0.7 else [some_value(random) for _ in columns] for _ in range(count)]
    return QueryResult(columns, rows)


def test_every_row_has_a_known_verdict(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        selected = selected_rows(some_result(random), random.choice((1, MAX_ROWS)))
        if isinstance(selected, Unreachable):
            assert selected.reason == "too_large"
            continue
        assert orjson.loads(orjson.dumps(selected.rows)) is not None
        for conditions in CONDITIONS:
            verdict = evaluate_rows(conditions, selected)
            assert isinstance(verdict, Pending | Success | Failure)
            assert verdict.reason in REASONS, verdict
            orjson.dumps(getattr(verdict, "payload", None))
            assert verdict.message.encode() is not None


@pytest.mark.parametrize("columns", [1, 100, 2000, 10_000])
def test_many_values_are_too_large(columns: int) -> None:
    rows = [[1] * columns] * row_limit(columns, MAX_ROWS)
    names = [f"c{number}" for number in range(columns)]
    selected = selected_rows(QueryResult(names, rows), MAX_ROWS)
    assert isinstance(selected, Unreachable) == (columns > 100)
    elements = selected_rows(QueryResult(["a"], [[[[1] * 700] * 700]]), MAX_ROWS)
    assert isinstance(elements, Unreachable)
