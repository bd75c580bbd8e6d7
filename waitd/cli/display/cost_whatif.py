"""What Airflow's sensors would have cost in each mode: the figures and the plot."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waitd.cli.display.formatting import format_duration, pluralize
from waitd.cli.display.plot import draw_slots, evenly_spaced
from waitd.core.airflow.task_history import SensorRun
from waitd.core.costs.model import (
    CostMode,
    ResourceUsage,
    SlotSpan,
    WaitingTotals,
    resource_usage,
    slots_over_time,
)
from waitd.settings import CostSettings

#: The choices of `--by`, and how each names the group of a sensor.
GROUPS: Mapping[str, Callable[[SensorRun], str]] = {
    "dag_id": lambda run: run.dag_id,
    "task_id": lambda run: f"{run.dag_id}.{run.task_id}",
    "operator": lambda run: run.operator,
    "day": lambda run: datetime.fromtimestamp(run.end, UTC).date().isoformat(),
}


class WhatIfReport:
    """The cost of the same waiting in each mode, for the sensors of a task history."""

    def __init__(self, settings: CostSettings, runs: Sequence[SensorRun]) -> None:
        self.runs = runs
        self._settings = settings
        self._constants, self._prices = settings.constants, settings.prices
        self._totals = [run.waiting(settings.poke_cpu_seconds, settings.wait_bytes) for run in runs]
        self._start, self._end = (
            min((r.start for r in runs), default=0.0),
            max((r.end for r in runs), default=0.0),
        )

    def headline(self) -> str:
        """How many sensors there were, and how long they waited."""
        seconds = sum(waiting.seconds for waiting in self._totals)
        return f"{pluralize(len(self.runs), 'sensor')} in {format_duration(self._end - self._start)}, {format_duration(seconds)} of waiting"

    def document(self, by: str, limit: int) -> dict[str, Any]:
        """The report as `--json` prints it, in the shape of `GET /v1/cost`.

        `limit` bounds its rows.
        """
        groups: defaultdict[str, list[WaitingTotals]] = defaultdict(list)
        for run, waiting in zip(self.runs, self._totals, strict=True):
            groups[GROUPS[by](run)].append(waiting)
        by_duration = sorted(groups.items(), key=lambda item: -sum(waiting.seconds for waiting in item[1]))
        return {
            "start": datetime.fromtimestamp(self._start, UTC).isoformat(),
            "end": datetime.fromtimestamp(self._end, UTC).isoformat(),
            "by": by,
            "currency": self._prices.currency,
            "rows": [{"name": name, **self._sums(waiting)} for name, waiting in by_duration[:limit]],
            "total": self._sums(self._totals),
            "actual": self._actual(),
            "processes": {
                "a Triggerer itself": self._process(self._settings.triggerer_bytes),
                "waitd itself": self._process(self._settings.process_bytes),
            },
        }

    def _process(self, size: float) -> dict[str, Any]:
        """The cost of one process over the whole period, however many waits it holds."""
        return self._with_cost(ResourceUsage(memory_byte_seconds=(self._end - self._start) * size))

    def _sums(self, waiting: Iterable[WaitingTotals]) -> dict[str, Any]:
        waiting = list(waiting)
        return {
            "waits": len(waiting),
            "wait_seconds": sum(one.seconds for one in waiting),
            "pokes": round(sum(one.pokes for one in waiting)),
            **{
                mode.value: self._with_cost(
                    sum((resource_usage(mode, one, self._constants) for one in waiting), ResourceUsage())
                )
                for mode in CostMode
            },
        }

    def _actual(self) -> dict[str, Any] | None:
        """The cost in the modes that the sensors ran in, or None if one is not known."""
        total = ResourceUsage()
        for run, waiting in zip(self.runs, self._totals, strict=True):
            if run.mode is None:
                return None
            total += resource_usage(run.mode, waiting, self._constants)
        return self._with_cost(total)

    def _with_cost(self, used: ResourceUsage) -> dict[str, Any]:
        return {**asdict(used), "cost": used.money(self._prices), "currency": self._prices.currency}

    def draw(self, file: Path) -> None:
        """Plots the worker slots over time."""
        spans = [
            SlotSpan(
                run.start,
                run.end,
                {mode: resource_usage(mode, one, self._constants).slot_seconds for mode in CostMode},
            )
            for run, one in zip(self.runs, self._totals, strict=True)
        ]
        edges = evenly_spaced(self._start, self._end)
        draw_slots(file, slots_over_time(spans, edges), edges, f"Worker slots of {len(spans):,} sensors")
