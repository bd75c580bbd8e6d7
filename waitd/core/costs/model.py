"""What waiting costs in four ways of doing it: with a worker slot held, rescheduled, deferred to Airflow's Triggerer, and here.

`waitd` is measured and brought along by whoever asks. The other three are a **model**: they follow from the same waits' own duration and
pokes, with constants that were measured on a real Airflow. The model is linear, so a thousand waits of one kind cost what their sums
say, and sums may be kept where the waits are not.

    poke         one run of the task; its slot is held from the first poke to the last
    reschedule   a run of the task for each poke
    defer        a run until the task defers, a trigger in a Triggerer that is filled to its capacity, a run to resume
    waitd        what this process used; and where a task of Airflow waits, its run until it parks, and the run that `resume` needs
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import inf
from typing import Any, NamedTuple, Self, assert_never

GIB = 2**30
HOUR = 3600.0
#: The key of a constant that holds for every kind that it does not name.
DEFAULT_KIND = "default"


class CostMode(StrEnum):
    """A way of waiting; the first three are Airflow's words."""

    POKE = "poke"
    RESCHEDULE = "reschedule"
    DEFER = "defer"
    WAITD = "waitd"


@dataclass(frozen=True, slots=True)
class CostConstants:
    """What the model takes as given. CPU in seconds over scheduler, API server, database and worker; memory in bytes.

    Those by kind have a `default` for the kinds that they do not name.

    Attributes:
        task_cpu_seconds: a trivial task from start to end; the run that resumes a deferred or parked one costs as much.
        defer_cpu_seconds: a run that only defers, or parks.
        callback_cpu_seconds: what Airflow needs to take a callback.
        reschedule_cpu_seconds: one poke of a rescheduled sensor, by kind.
        run_seconds: how long a run that does next to nothing holds its slot.
        slot_bytes: a task's process and its supervisor.
        trigger_cpu_seconds: one poke of a trigger, by kind.
        trigger_bytes: one trigger in the Triggerer's processes, by kind.
        triggerer_bytes: those processes without any trigger.
        triggerer_capacity: how many triggers one Triggerer holds.
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
    """What is paid for an hour of each, in `currency`. Where slots are paid for, their memory and CPU should not be paid twice."""

    slot_hour: float
    vcpu_hour: float
    gib_hour: float
    currency: str


class MeasuredUsage(NamedTuple):
    """What this process used for some waits: CPU in seconds, memory in bytes held times the seconds for which they were."""

    cpu_seconds: float = 0.0
    byte_seconds: float = 0.0

    def plus(self, other: "MeasuredUsage") -> "MeasuredUsage":
        """Both together."""
        return MeasuredUsage(self.cpu_seconds + other.cpu_seconds, self.byte_seconds + other.byte_seconds)

    def since(self, before: "MeasuredUsage") -> "MeasuredUsage":
        """What came to it after `before`."""
        return MeasuredUsage(self.cpu_seconds - before.cpu_seconds, self.byte_seconds - before.byte_seconds)


class WaitingTotals(NamedTuple):
    """Waits of one kind, added up.

    Attributes:
        waits: how many.
        seconds: how long they waited, all together.
        pokes: how often they were poked, all together.
        parked: on how many of them a task of Airflow waits.
        resumed: for how many of those a worker runs once more at the end.
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
    def of(
        cls,
        kind: str,
        sinks: Iterable[Mapping[str, Any]],
        *,
        seconds: float,
        pokes: float,
        measured: MeasuredUsage = MeasuredUsage(),  # noqa: B008 - a NamedTuple does not change
    ) -> Self:
        """One wait. Its callback says whether a task of Airflow is parked on it, and whether it runs once more (`resume`, `clear`) or
        its state is just set (`set_state`).
        """
        modes = [sink.get("mode", "resume") for sink in sinks if sink.get("kind") == "airflow"]
        parked = any(mode in {"resume", "set_state", "clear"} for mode in modes)
        resumed = any(mode in {"resume", "clear"} for mode in modes)
        return cls(kind, 1, max(0.0, seconds), pokes, float(parked), float(resumed), measured)

    def plus(self, other: "WaitingTotals") -> "WaitingTotals":
        """Both together, under this one's kind."""
        return WaitingTotals(
            self.kind,
            self.waits + other.waits,
            self.seconds + other.seconds,
            self.pokes + other.pokes,
            self.parked + other.parked,
            self.resumed + other.resumed,
            self.measured.plus(other.measured),
        )


# Not frozen: that makes one twice as dear, and the cost of a wait, which each answer with a wait in it shows, takes a dozen of them.
@dataclass(slots=True)
class ResourceUsage:
    """What is occupied: worker slots, CPU and memory, each for how long; nobody changes one."""

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
        """What that costs, in the prices' currency."""
        return (
            self.slot_seconds * prices.slot_hour
            + self.cpu_seconds * prices.vcpu_hour
            + self.memory_byte_seconds / GIB * prices.gib_hour
        ) / HOUR


def resource_usage(mode: CostMode, waiting: WaitingTotals, constants: CostConstants) -> ResourceUsage:
    """What these waits occupy, or would have occupied, in one mode."""
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
    """Slots that are held for so long."""
    return ResourceUsage(seconds, cpu_seconds, seconds * constants.slot_bytes)


def _parked(constants: CostConstants, kind: str, parked: float, resumed: float) -> ResourceUsage:
    """The runs around a wait that itself holds no slot."""
    first = constants.defer_cpu_seconds + _library(constants, kind)
    return _runs(
        constants,
        seconds=(parked + resumed) * constants.run_seconds,
        cpu_seconds=parked * first + resumed * constants.task_cpu_seconds,
    )


def _library(constants: CostConstants, kind: str) -> float:
    """CPU by which a sensor's first run exceeds a task that does nothing: its library, its connection, its poke. As by which a rescheduled
    poke of the kind exceeds that of a sensor that does nothing.
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
    """A wait to compare modes by: pokes every `poke_interval` seconds, Airflow's `resume` at its end; what waitd uses for a poke and
    for each second that it holds one.
    """

    kind: str
    poke_interval: float
    poke_cpu_seconds: float
    wait_bytes: float

    def lasting(self, seconds: float) -> WaitingTotals:
        """One such wait of this duration."""
        pokes = 1 + seconds / self.poke_interval
        measured = MeasuredUsage(pokes * self.poke_cpu_seconds, seconds * self.wait_bytes)
        return WaitingTotals(self.kind, 1, seconds, pokes, 1, 1, measured)


def break_even_duration(mode: CostMode, case: ExampleWait, constants: CostConstants, prices: Prices) -> float:
    """From which duration on, in seconds, the mode costs less than a slot held; inf: never."""
    own_fixed, own_growth = _line(mode, case, constants, prices)
    held_fixed, held_growth = _line(CostMode.POKE, case, constants, prices)
    if own_growth >= held_growth:
        return inf
    return max(0.0, (own_fixed - held_fixed) / (held_growth - own_growth))


def _line(mode: CostMode, case: ExampleWait, constants: CostConstants, prices: Prices) -> tuple[float, float]:
    """The money for a wait of no duration, and what each further second adds."""
    fixed = resource_usage(mode, case.lasting(0.0), constants).money(prices)
    return fixed, (resource_usage(mode, case.lasting(HOUR), constants).money(prices) - fixed) / HOUR


def break_even_poke_interval(kind: str, constants: CostConstants, prices: Prices) -> float:
    """From which poke_interval on, in seconds, a rescheduled sensor costs less than one that holds its slot; inf: never."""
    held = resource_usage(CostMode.POKE, WaitingTotals(kind, seconds=1.0), constants).money(prices)
    poke = resource_usage(CostMode.RESCHEDULE, WaitingTotals(kind, pokes=1.0), constants).money(prices)
    return poke / held if held > 0 else inf


class SlotSpan(NamedTuple):
    """One wait in time: from when to when, in Unix seconds, and for how long it holds slots under each mode."""

    start: float
    end: float
    slot_seconds: Mapping[CostMode, float]


def slots_over_time(spans: Iterable[SlotSpan], edges: Sequence[float]) -> Mapping[CostMode, list[float]]:
    """How many slots were held on average between each of `edges` (ascending, evenly spaced) and the next, under each mode.

    What a wait holds is spread evenly over its own time; its runs at the start and at the end are part of that.
    """
    count, first, step = len(edges) - 1, edges[0], edges[1] - edges[0]
    # How much a step begins to hold, and how much only that one does: each wait costs the same, however many steps it spans.
    begins = {mode: [0.0] * (count + 1) for mode in CostMode}
    alone = {mode: [0.0] * (count + 1) for mode in CostMode}
    for start, end, slot_seconds in spans:
        if end < first or start >= edges[-1]:
            continue
        end = max(end, start + 1e-9)  # noqa: PLW2901 - of no length at all
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
