"""The cost model: what the same waits occupy in Airflow's three modes and in waitd.

The usage of waitd is measured and passed in. The other modes are a model: their usage follows from
the duration and pokes of the same waits and from constants measured on a real Airflow. The model is
linear, so the cost of many waits of one kind follows from their totals, and only totals are stored.

    poke         one task run, whose slot is held from the first poke to the last
    reschedule   one task run per poke
    defer        a run until the task defers, a trigger in a Triggerer that is filled to its
                 capacity, and a run to resume
    waitd        what this process used and, if an Airflow task waits, its run until it parks and
                 the run that a callback starts
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import inf
from typing import Any, NamedTuple, Self, assert_never

GIB = 2**30
HOUR = 3600.0
#: The key of a per-kind constant's value for all kinds that it does not name.
DEFAULT_KIND = "default"


class CostMode(StrEnum):
    """A way of waiting; the names of the first three are Airflow's."""

    POKE = "poke"
    RESCHEDULE = "reschedule"
    DEFER = "defer"
    WAITD = "waitd"


@dataclass(frozen=True, slots=True)
class CostConstants:
    """The constants of the model.

    CPU is in seconds, summed over scheduler, API server, database and worker; memory is in bytes.
    Mappings by kind have a `default` for the kinds that they do not name.

    Attributes:
        task_cpu_seconds: CPU of a trivial task from start to end; also of a run that resumes.
        defer_cpu_seconds: CPU of a run that only defers or parks.
        callback_cpu_seconds: CPU with which Airflow processes a callback.
        reschedule_cpu_seconds: CPU of one poke of a rescheduled sensor, by kind.
        run_seconds: how long a run that does almost nothing holds its slot.
        slot_bytes: memory of a task's process and its supervisor.
        trigger_cpu_seconds: CPU of one poke of a trigger, by kind.
        trigger_bytes: memory of one trigger in the Triggerer's processes, by kind.
        triggerer_bytes: memory of those processes without triggers.
        triggerer_capacity: the number of triggers that one Triggerer holds.
    """

    task_cpu_seconds: float
    defer_cpu_seconds: float
    callback_cpu_seconds: float
    reschedule_cpu_seconds: Mapping[str, float]
    run_seconds: float
    slot_bytes: float
    trigger_cpu_seconds: Mapping[str, float]
    trigger_bytes: Mapping[str, float]
    triggerer_bytes: float
    triggerer_capacity: int


class Prices(NamedTuple):
    """Prices per hour, in `currency`. A price for slots should not include their CPU and memory."""

    slot_hour: float
    vcpu_hour: float
    gib_hour: float
    currency: str


class MeasuredUsage(NamedTuple):
    """What this process used for some waits: CPU in seconds, memory in byte-seconds."""

    cpu_seconds: float = 0.0
    byte_seconds: float = 0.0

    def plus(self, other: "MeasuredUsage") -> "MeasuredUsage":
        """The sum of both."""
        return MeasuredUsage(self.cpu_seconds + other.cpu_seconds, self.byte_seconds + other.byte_seconds)

    def since(self, before: "MeasuredUsage") -> "MeasuredUsage":
        """The usage that was added after `before`."""
        return MeasuredUsage(self.cpu_seconds - before.cpu_seconds, self.byte_seconds - before.byte_seconds)


class WaitingTotals(NamedTuple):
    """The totals of waits of one kind.

    Attributes:
        waits: the number of waits.
        seconds: their total duration.
        pokes: their total number of pokes.
        parked: for how many of them an Airflow task is parked.
        resumed: how many of those tasks run again at the end.
        measured: what waitd used for them.
    """

    kind: str
    waits: float = 0.0
    seconds: float = 0.0
    pokes: float = 0.0
    parked: float = 0.0
    resumed: float = 0.0
    measured: MeasuredUsage = MeasuredUsage()

    @classmethod
    def from_wait(
        cls,
        kind: str,
        sinks: Iterable[Mapping[str, Any]],
        *,
        seconds: float,
        pokes: float,
        measured: MeasuredUsage = MeasuredUsage(),  # noqa: B008 - a NamedTuple does not change
    ) -> Self:
        """The totals of one wait.

        Its Airflow sinks say whether a task is parked, and whether the task runs again (`resume`,
        `clear`) or only its state is set (`set_state`).
        """
        modes = [sink.get("mode", "resume") for sink in sinks if sink.get("kind") == "airflow"]
        parked = any(mode in {"resume", "set_state", "clear"} for mode in modes)
        resumed = any(mode in {"resume", "clear"} for mode in modes)
        return cls(kind, 1, max(0.0, seconds), pokes, float(parked), float(resumed), measured)

    def plus(self, other: "WaitingTotals") -> "WaitingTotals":
        """The sum of both, with the kind of this one."""
        return WaitingTotals(
            self.kind,
            self.waits + other.waits,
            self.seconds + other.seconds,
            self.pokes + other.pokes,
            self.parked + other.parked,
            self.resumed + other.resumed,
            self.measured.plus(other.measured),
        )


# Not frozen, which would double the cost of making one: every API response with a wait makes a
# dozen.
@dataclass(slots=True)
class ResourceUsage:
    """Slot-seconds, CPU-seconds and memory byte-seconds. Treated as immutable."""

    slot_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_byte_seconds: float = 0.0

    def __add__(self, other: "ResourceUsage") -> "ResourceUsage":
        return ResourceUsage(
            self.slot_seconds + other.slot_seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.memory_byte_seconds + other.memory_byte_seconds,
        )

    def money(self, prices: Prices) -> float:
        """The cost in the prices' currency."""
        return (
            self.slot_seconds * prices.slot_hour
            + self.cpu_seconds * prices.vcpu_hour
            + self.memory_byte_seconds / GIB * prices.gib_hour
        ) / HOUR


def resource_usage(mode: CostMode, waiting: WaitingTotals, constants: CostConstants) -> ResourceUsage:
    """What these waits occupy, or would have occupied, in a mode."""
    match mode:
        case CostMode.POKE:
            return _runs(
                constants,
                seconds=waiting.seconds + waiting.waits * constants.run_seconds,
                cpu_seconds=waiting.waits * (constants.task_cpu_seconds + _library(constants, waiting.kind)),
            )
        case CostMode.RESCHEDULE:
            return _runs(
                constants,
                seconds=waiting.pokes * constants.run_seconds,
                cpu_seconds=waiting.pokes * _by_kind(constants.reschedule_cpu_seconds, waiting.kind),
            )
        case CostMode.DEFER:
            runs = _parked(constants, waiting.kind, waiting.waits, waiting.waits)
            return runs + _triggers(constants, waiting)
        case CostMode.WAITD:
            callbacks = ResourceUsage(cpu_seconds=waiting.parked * constants.callback_cpu_seconds)
            own = ResourceUsage(0.0, waiting.measured.cpu_seconds, waiting.measured.byte_seconds)
            runs = _parked(constants, waiting.kind, waiting.parked, waiting.resumed)
            return own + runs + callbacks
        case _:  # pragma: no cover - mypy proves it
            assert_never(mode)


def _runs(constants: CostConstants, *, seconds: float, cpu_seconds: float) -> ResourceUsage:
    """The usage of task runs that hold slots for `seconds` in total."""
    return ResourceUsage(seconds, cpu_seconds, seconds * constants.slot_bytes)


def _parked(constants: CostConstants, kind: str, parked: float, resumed: float) -> ResourceUsage:
    """The runs before and after waits that hold no slot themselves."""
    first = constants.defer_cpu_seconds + _library(constants, kind)
    return _runs(
        constants,
        seconds=(parked + resumed) * constants.run_seconds,
        cpu_seconds=parked * first + resumed * constants.task_cpu_seconds,
    )


def _library(constants: CostConstants, kind: str) -> float:
    """Extra CPU of a sensor's first run over a trivial task: its imports, its connection, its poke.

    It equals the extra CPU of a rescheduled poke of this kind over that of a trivial sensor.
    """
    each = constants.reschedule_cpu_seconds
    return max(0.0, _by_kind(each, kind) - each[DEFAULT_KIND])


def _triggers(constants: CostConstants, waiting: WaitingTotals) -> ResourceUsage:
    share = constants.triggerer_bytes / constants.triggerer_capacity
    each = _by_kind(constants.trigger_bytes, waiting.kind) + share
    cpu_seconds = waiting.pokes * _by_kind(constants.trigger_cpu_seconds, waiting.kind)
    return ResourceUsage(0.0, cpu_seconds, waiting.seconds * each)


def _by_kind(values: Mapping[str, float], kind: str) -> float:
    return values[kind] if kind in values else values[DEFAULT_KIND]


class ExampleWait(NamedTuple):
    """A wait with which to compare the modes. Airflow resumes its task at the end.

    Attributes:
        kind: the kind of wait.
        poke_interval: seconds between pokes.
        poke_cpu_seconds: CPU of one poke in waitd.
        wait_bytes: memory of one wait in waitd.
    """

    kind: str
    poke_interval: float
    poke_cpu_seconds: float
    wait_bytes: float

    def totals(self, seconds: float) -> WaitingTotals:
        """The totals of one such wait of this duration."""
        pokes = 1 + seconds / self.poke_interval
        measured = MeasuredUsage(pokes * self.poke_cpu_seconds, seconds * self.wait_bytes)
        return WaitingTotals(self.kind, 1, seconds, pokes, 1, 1, measured)


def break_even_duration(mode: CostMode, case: ExampleWait, constants: CostConstants, prices: Prices) -> float:
    """The duration in seconds from which on a mode costs less than a held slot; inf if it never
    does.
    """
    own_fixed, own_growth = _line(mode, case, constants, prices)
    held_fixed, held_growth = _line(CostMode.POKE, case, constants, prices)
    if own_growth >= held_growth:
        return inf
    return max(0.0, (own_fixed - held_fixed) / (held_growth - own_growth))


def _line(mode: CostMode, case: ExampleWait, constants: CostConstants, prices: Prices) -> tuple[float, float]:
    """The cost of a wait without duration, and the cost that each further second adds."""
    fixed = resource_usage(mode, case.totals(0.0), constants).money(prices)
    return fixed, (resource_usage(mode, case.totals(HOUR), constants).money(prices) - fixed) / HOUR


def break_even_poke_interval(kind: str, constants: CostConstants, prices: Prices) -> float:
    """The poke_interval in seconds from which on rescheduling costs less than a held slot; inf:
    never.
    """
    held = resource_usage(CostMode.POKE, WaitingTotals(kind, seconds=1.0), constants).money(prices)
    poke = resource_usage(CostMode.RESCHEDULE, WaitingTotals(kind, pokes=1.0), constants).money(prices)
    return poke / held if held > 0 else inf


class SlotSpan(NamedTuple):
    """The start and end of a wait (Unix seconds), and its slot-seconds in each mode."""

    start: float
    end: float
    slot_seconds: Mapping[CostMode, float]


def slots_over_time(spans: Iterable[SlotSpan], edges: Sequence[float]) -> Mapping[CostMode, list[float]]:
    """The average number of held slots between each of `edges` and the next, for each mode.

    The slot-seconds of a wait, the runs at its start and end included, are spread evenly over its
    duration.

    Args:
        spans: the waits.
        edges: evenly spaced times in Unix seconds, ascending.
    """
    count, first, step = len(edges) - 1, edges[0], edges[1] - edges[0]
    # `begins` changes the level from an interval on, `alone` in one interval only. So the cost per
    # wait does not depend on the number of intervals that the wait spans.
    begins = {mode: [0.0] * (count + 1) for mode in CostMode}
    alone = {mode: [0.0] * (count + 1) for mode in CostMode}
    for start, end, slot_seconds in spans:
        if end < first or start >= edges[-1]:
            continue
        end = max(end, start + 1e-9)  # noqa: PLW2901 - a wait without duration
        low, high = max(start, first), min(end, edges[-1])
        low_at, high_at = int((low - first) / step), int((high - first) / step)
        for mode, seconds in slot_seconds.items():
            slots = seconds / (end - start)
            begins[mode][low_at] += slots
            begins[mode][min(high_at, count)] -= slots
            alone[mode][low_at] -= slots * (low - edges[low_at]) / step
            if high_at < count:
                alone[mode][high_at] += slots * (high - edges[high_at]) / step
    return {
        mode: [held + own for held, own in zip(accumulate(begins[mode]), alone[mode], strict=True)][:count]
        for mode in CostMode
    }
