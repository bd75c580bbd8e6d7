"""What Linux says about this machine and about processes on it: cores, CPU time, memory, sockets."""

import json
import os
import platform
import resource
import sqlite3
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from waitd.bench.quantiles import quantile


class Cores(NamedTuple):
    """Who runs where: what is measured has a core to itself, as far as we are concerned; everything else of ours runs on the others."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def ours(cls) -> "Cores":
        """Of those this process may run on, the first and the others; of a single one, that one twice."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others or {first}))

    @property
    def apart(self) -> bool:
        """Whether there is more than one."""
        return not self.measured & self.others


def open_as_many_files_as_allowed() -> None:
    """For this process and those that it starts from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pin(pid: int, cores: Collection[int]) -> None:
    """Puts a process, all its threads, on these cores; nothing where it has ended."""
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # the thread has ended meanwhile
                os.sched_setaffinity(int(task.name), cores)


class ProcessUsage(NamedTuple):
    """What a process had at a moment, in seconds and bytes. `kept_waiting`: it was ready to run, and others had the core."""

    at: float
    cpu: float
    kept_waiting: float
    rss: int

    @classmethod
    def of(cls, pid: int) -> "ProcessUsage":
        """Of a process that runs, all its threads together."""
        proc = Path(f"/proc/{pid}")
        # The command's name may hold spaces and brackets; what follows it does not.
        fields = (proc / "stat").read_text("utf-8").rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        delays = [
            int((task / "schedstat").read_text("utf-8").split()[1]) for task in (proc / "task").iterdir()
        ]
        pages = int((proc / "statm").read_text("utf-8").split()[1])
        return cls(
            time.monotonic(),
            ticks / os.sysconf("SC_CLK_TCK"),
            sum(delays) / 1e9,
            pages * os.sysconf("SC_PAGE_SIZE"),
        )

    @classmethod
    def of_all(cls, pids: Sequence[int]) -> "ProcessUsage":
        """Of several processes, added up."""
        usages = [cls.of(pid) for pid in pids]
        return cls(
            usages[0].at,
            sum(usage.cpu for usage in usages),
            sum(usage.kept_waiting for usage in usages),
            sum(usage.rss for usage in usages),
        )


class UsageSpan(NamedTuple):
    """What was used between two moments, in seconds."""

    wall: float
    cpu: float
    kept_waiting: float

    @classmethod
    def between(cls, before: ProcessUsage, after: ProcessUsage) -> "UsageSpan":
        """From the one to the other."""
        return cls(
            after.at - before.at, after.cpu - before.cpu, max(0.0, after.kept_waiting - before.kept_waiting)
        )

    @property
    def busy(self) -> float:
        """The share of the time in which it ran or would have: near 1, a process with one thread could do no more."""
        return (self.cpu + self.kept_waiting) / self.wall if self.wall else 0.0

    def __str__(self) -> str:
        return f"{self.cpu:.2f} s CPU in {self.wall:.2f} s, {self.kept_waiting / self.wall:.0%} kept waiting for the core"


def sockets_of(pid: int) -> int:
    """How many sockets a process has open. Raises OSError: it is not ours, or has ended."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # it was closed meanwhile
            continue
    return found


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
