"""A held wait: the part of a wait that poking needs, kept small. The rest stays in the store."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from waitd.core.waits.schedule import Pacing
from waitd.core.waits.verdict import VERDICT_NAMES, Unreachable, Verdict
from waitd.core.waits.wait import Progress, WaitId
from waitd.metrics import Instruments
from waitd.ports import Pokeable, Probe, Target

log = structlog.get_logger(__name__)


class ProbeKind:
    """A probe for the waits of one namespace, with its metrics, looked up once."""

    def __init__(self, name: str, probe: Probe, instruments: Instruments, namespace: str) -> None:
        self.name = name
        self.probe = probe
        self.namespace = namespace
        self.verdicts = {
            verdict: instruments.pokes.labels(name, word) for verdict, word in VERDICT_NAMES.items()
        }
        self.duration = instruments.poke_duration.labels(name)
        #: Whether its waits may have topics.
        self.has_topics = type(probe).topics is not Probe.topics


class HeldWait(Struct, eq=False, gc=False):
    """One held wait.

    Its states in turn: in the calendar (`bucket` is set), `queued` at its origin, `in_flight`, and
    then in the calendar again, or `ended`.

    The struct has no gc header, which a million waits would pay for. It refers to its bucket and
    back, so the calendar clears `bucket` before it drops either.

    Attributes:
        due: when the next poke is due, monotonic seconds.
        deadline: when the wait times out, Unix seconds.
        quiet_until: when the last answer's `Retry-After` ends, Unix seconds.
        in_flight: how many pokes are in progress; two if the poke at the deadline overtakes
            another.
        final: whether the final poke, the one at the deadline, has been queued; its verdict
            decides.
        dirty: whether the progress is newer than the one on disk.
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
    in_flight: int = 0
    final: bool = False
    ended: bool = False
    dirty: bool = False

    @property
    def idle(self) -> bool:
        """Whether the wait is in the calendar, neither queued nor being poked."""
        return not (self.queued or self.in_flight or self.final or self.ended)


class UnknownTarget(Probe):
    """Target and probe of a wait that this waitd does not understand, e.g. after a downgrade.

    The wait is neither lost nor failed: its verdict is `Unreachable` until its deadline.
    """

    key = ""
    conn_id = None
    request_timeout = 1.0

    def __init__(self, message: str) -> None:
        self._verdict = Unreachable("not_understood", message)

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> "UnknownTarget":  # noqa: ARG002 - the port's shape
        """Returns itself: there is nothing to parse."""
        return self

    def origin(self, target: Any) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all unknown targets."""
        return "not understood"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Returns the verdict without a request."""
        return [self._verdict] * len(group)


def find_origin(held: HeldWait) -> str:
    """Returns the origin of a wait's target; after a defect, one of its own."""
    try:
        return held.kind.probe.origin(held.target)
    except Exception:
        log.exception("origin_not_found", wait_id=held.id)
        return f"wait {held.id}"
