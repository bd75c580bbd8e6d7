"""What was measured, beside what it should be; and on which machine."""

import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        name: what it is.
        value: in `unit`.
        at_most, at_least: the goal; both None: for information.
        note: what it was measured on, CPU time beside wall time.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def goal(self) -> str:
        """The goal for people."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.6g} {self.unit}"
        return "" if self.at_least is None else f"≥ {self.at_least:,.6g} {self.unit}"

    @property
    def measured(self) -> str:
        """The value for people, with three significant digits."""
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}"


def quantile(values: Sequence[float], q: float) -> float:
    """The `q`-quantile of `values` (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def bucket_quantile(counts: Mapping[float, float], q: float) -> float:
    """The `q`-quantile of a histogram: `counts` are cumulative, by upper bound; linear within a bucket, as Prometheus does it."""
    bounds = sorted(counts)
    rank = q * counts[bounds[-1]] if bounds else 0.0
    lower, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (counts[bound] - below)
        lower, below = bound, counts[bound]
    return 0.0


def machine() -> dict[str, Any]:
    """The facts without which figures mean nothing."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1_min": round(os.getloadavg()[0], 2),
        "json_1_kb_us": round(_json_seconds() * 1e6, 1),
        "flush_ms": round(_flush_seconds() * 1000, 3),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("aiohttp", "uvloop", "cel-expr-python", "pydantic")},
    }


def _json_seconds() -> float:
    """A yardstick of how fast Python is here and now: CPU time of decoding 1 KB of JSON, the median of a hundred."""
    text = json.dumps([{"id": n, "name": f"name {n}", "share": n / 7} for n in range(17)])
    seconds = []
    for _ in range(100):
        started = time.process_time()
        for _ in range(100):
            json.loads(text)
        seconds.append((time.process_time() - started) / 100)
    return quantile(seconds, 0.5)


def _flush_seconds() -> float:
    """What one fsync of a small append costs here: the median of a hundred."""
    with tempfile.TemporaryFile() as file:
        seconds = []
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return quantile(seconds, 0.5)
