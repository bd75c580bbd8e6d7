"""A wait in hand: the hot data only, small, its parts shared with its equals. What only delivery needs stays in the store."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from waitd.core.waits.schedule import Pacing, grid_phase
from waitd.core.waits.verdict import VERDICT_NAMES, Unreachable, Verdict
from waitd.core.waits.wait import Progress, WaitId
from waitd.metrics import Instruments
from waitd.ports import Pokeable, Probe, StoredWait, Target


class ProbeKind:
    """A probe with its metrics' children, looked up once."""

    def __init__(self, name: str, probe: Probe, instruments: Instruments) -> None:
        self.name = name
        self.probe = probe
        self.verdicts = {
            verdict: instruments.pokes.labels(name, word) for verdict, word in VERDICT_NAMES.items()
        }
        self.duration = instruments.poke_duration.labels(name)


class HeldWait(Struct, eq=False, gc=False):
    """One wait in hand. `due` is monotonic, `deadline` is Unix seconds.

    Its way: in the calendar (`bucket` set) → `queued` at its origin → `flying` → back to the calendar, or `ended`. `last` is set when the
    poke at the deadline has been queued: that poke's verdict decides. `quiet_until`: the last answer's `Retry-After` ends then, Unix seconds.

    The collector passes entries over, a million of them: the calendar takes an entry out of its bucket before it lets go of either.
    """

    id: WaitId
    kind: ProbeKind
    target: Target
    pacing: Pacing
    phase: float
    deadline: float
    silent_fail: bool
    progress: Progress
    due: float = 0.0
    bucket: "list[HeldWait] | None" = None
    quiet_until: float | None = None
    queued: bool = False
    flying: int = 0
    last: bool = False
    ended: bool = False
    dirty: bool = False

    @classmethod
    def of(cls, wait: StoredWait, kind: ProbeKind, target: Target, pacing: Pacing) -> "HeldWait":
        """A wait just taken in hand."""
        return cls(
            wait.id,
            kind,
            target,
            pacing,
            grid_phase(target.key or wait.id),
            wait.deadline,
            wait.spec.silent_fail,
            wait.progress,
        )

    @property
    def at_rest(self) -> bool:
        """In the calendar, neither queued nor being poked."""
        return not (self.queued or self.flying or self.last or self.ended)


class UnknownTarget(Probe):
    """Stands in where a stored wait's kind or parameters are not understood any more, e.g. after a downgrade.

    The wait is neither lost nor failed: it is seen as unreachable until its deadline.
    """

    key = ""
    conn_id = None
    request_timeout = 1.0

    def __init__(self, why: str) -> None:
        self._verdict = Unreachable("not_understood", why)

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> "UnknownTarget":  # noqa: ARG002 - the port's shape
        """Itself: there is nothing to parse."""
        return self

    def origin(self, target: Any) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all of them."""
        return "not understood"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Says why, without asking anybody."""
        return [self._verdict] * len(group)
