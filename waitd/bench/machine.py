"""Cores, and what Linux says about this machine and its processes: CPU time, memory, sockets."""

import json
import os
import platform
import resource
import sqlite3
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from waitd.bench.quantiles import quantile


class Cores(NamedTuple):
    """The cores of what is measured and those of everything else."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """The first core of this process for what is measured, all others for the rest.

        A single core serves both.
        """
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others or {first}))

    @property
    def apart(self) -> bool:
        """Whether what is measured has a core to itself."""
        return not self.measured & self.others


def raise_file_limit() -> None:
    """Raises the limit of open files to its maximum, also for child processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pin(pid: int, cores: Collection[int]) -> None:
    """Restricts all threads of a process to these cores; does nothing if it has ended."""
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # the thread has ended
                os.sched_setaffinity(int(task.name), cores)


class ProcessUsage(NamedTuple):
    """What a process has used at a moment.

    Attributes:
        at: the moment, monotonic seconds.
        cpu: CPU seconds of all its threads.
        kept_waiting: seconds in which a thread was ready to run while others had the core.
        rss: resident memory, bytes.
    """

    at: float
    cpu: float
    kept_waiting: float
    rss: int

    @classmethod
    def from_pid(cls, pid: int) -> "ProcessUsage":
        """The usage of a running process."""
        proc = Path(f"/proc/{pid}")
        user, system = stat_fields(pid)[11:13]
        delays = [
            int((task / "schedstat").read_text("utf-8").split()[1]) for task in (proc / "task").iterdir()
        ]
        pages = int((proc / "statm").read_text("utf-8").split()[1])
        return cls(
            time.monotonic(),
            (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
            sum(delays) / 1e9,
            pages * os.sysconf("SC_PAGE_SIZE"),
        )

    @classmethod
    def sum_of(cls, pids: Sequence[int]) -> "ProcessUsage":
        """The usage of several processes, added up."""
        usages = [cls.from_pid(pid) for pid in pids]
        return cls(
            usages[0].at,
            sum(usage.cpu for usage in usages),
            sum(usage.kept_waiting for usage in usages),
            sum(usage.rss for usage in usages),
        )


class UsageSpan(NamedTuple):
    """What a process used between two moments, in seconds."""

    wall: float
    cpu: float
    kept_waiting: float

    @classmethod
    def between(cls, before: ProcessUsage, after: ProcessUsage) -> "UsageSpan":
        """The difference of two usages."""
        return cls(
            after.at - before.at, after.cpu - before.cpu, max(0.0, after.kept_waiting - before.kept_waiting)
        )

    @property
    def busy(self) -> float:
        """The share of the time in which it ran or was ready to.

        Near 1, a single thread can do no more.
        """
        return (self.cpu + self.kept_waiting) / self.wall if self.wall else 0.0

    def __str__(self) -> str:
        return f"{self.cpu:.2f} s CPU in {self.wall:.2f} s, {self.kept_waiting / self.wall:.0%} kept waiting for the core"


def stat_fields(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` from the third on. Raises OSError: the process has ended."""
    # The second field, the command's name, may contain spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def count_sockets(pid: int) -> int:
    """The number of open sockets of a process.

    Raises:
        OSError: it has ended, or another user runs it.
    """
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # it was closed
            continue
    return count


def descendants(pid: int) -> Iterator[int]:
    """The ids of all processes below a process; those that have ended are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            state, parent = stat_fields(int(entry.name))[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        yield from below
        pending += below


def machine() -> dict[str, Any]:
    """The facts about this machine that a figure depends on."""
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
    """CPU seconds to decode 1 KB of JSON, a yardstick of Python's speed."""
    text = json.dumps([{"id": n, "name": f"name {n}", "share": n / 7} for n in range(17)])
    seconds = []
    for _ in range(100):
        started = time.process_time()
        for _ in range(100):
            json.loads(text)
        seconds.append((time.process_time() - started) / 100)
    return quantile(seconds, 0.5)


def _flush_seconds() -> float:
    """Seconds that an fsync of a small append takes: the median of a hundred."""
    with tempfile.TemporaryFile() as file:
        seconds = []
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return quantile(seconds, 0.5)
