"""What sensors of Airflow would have cost in each mode, as numbers and as a picture."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waitd.cli.display.formatting import counted, span
from waitd.cli.display.plot import edges_of, plot
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

#: What rows can be about.
GROUPS: Mapping[str, Callable[[SensorRun], str]] = {
    "dag_id": lambda run: run.dag_id,
    "task_id": lambda run: f"{run.dag_id}.{run.task_id}",
    "operator": lambda run: run.operator,
    "day": lambda run: datetime.fromtimestamp(run.end, UTC).date().isoformat(),
}


class Report:
    """What sensors would have cost."""

    def __init__(self, settings: CostSettings, runs: Sequence[SensorRun]) -> None:
        self.runs = runs
        self._settings = settings
        self._constants, self._prices = settings.constants, settings.prices
        self._waiting = [run.waiting(settings.poke_cpu_seconds, settings.wait_bytes) for run in runs]
        self._start, self._end = (
            min((r.start for r in runs), default=0.0),
            max((r.end for r in runs), default=0.0),
        )

    def headline(self) -> str:
        """How much waiting it was."""
        seconds = sum(waiting.seconds for waiting in self._waiting)
        return f"{counted(len(self.runs), 'sensor')} in {span(self._end - self._start)}, {span(seconds)} of waiting"

    def document(self, by: str, limit: int) -> dict[str, Any]:
        """Everything, as `--json` prints it: in the shape of the API's sums."""
        groups: defaultdict[str, list[WaitingTotals]] = defaultdict(list)
        for run, waiting in zip(self.runs, self._waiting, strict=True):
            groups[GROUPS[by](run)].append(waiting)
        longest = sorted(groups.items(), key=lambda item: -sum(waiting.seconds for waiting in item[1]))
        return {
            "start": datetime.fromtimestamp(self._start, UTC).isoformat(),
            "end": datetime.fromtimestamp(self._end, UTC).isoformat(),
            "by": by,
            "currency": self._prices.currency,
            "rows": [{"name": name, **self._sums(waiting)} for name, waiting in longest[:limit]],
            "total": self._sums(self._waiting),
            "actual": self._actual(),
            "processes": {
                "a Triggerer itself": self._process(self._settings.triggerer_bytes),
                "waitd itself": self._process(self._settings.process_bytes),
            },
        }

    def _process(self, size: float) -> dict[str, Any]:
        """What one process takes for the whole time, whatever it holds."""
        return self._shown(ResourceUsage(memory_byte_seconds=(self._end - self._start) * size))

    def _sums(self, waiting: Iterable[WaitingTotals]) -> dict[str, Any]:
        waiting = list(waiting)
        return {
            "waits": len(waiting),
            "wait_seconds": sum(one.seconds for one in waiting),
            "pokes": round(sum(one.pokes for one in waiting)),
            **{
                mode.value: self._shown(
                    sum((resource_usage(mode, one, self._constants) for one in waiting), ResourceUsage())
                )
                for mode in CostMode
            },
        }

    def _actual(self) -> dict[str, Any] | None:
        """In the mode in which each ran, where that is known of all."""
        total = ResourceUsage()
        for run, waiting in zip(self.runs, self._waiting, strict=True):
            if run.mode is None:
                return None
            total += resource_usage(run.mode, waiting, self._constants)
        return self._shown(total)

    def _shown(self, used: ResourceUsage) -> dict[str, Any]:
        return {**asdict(used), "cost": used.money(self._prices), "currency": self._prices.currency}

    def draw(self, file: Path) -> None:
        """Draws the slots over time."""
        spans = [
            SlotSpan(
                run.start,
                run.end,
                {mode: resource_usage(mode, one, self._constants).slot_seconds for mode in CostMode},
            )
            for run, one in zip(self.runs, self._waiting, strict=True)
        ]
        edges = edges_of(self._start, self._end)
        plot(file, slots_over_time(spans, edges), edges, f"What {len(spans):,} sensors would hold")
