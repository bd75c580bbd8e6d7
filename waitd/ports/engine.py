"""The poker as the API needs it."""

from typing import NamedTuple, Protocol

from waitd.core.waits.wait import Progress


class WaitingOn(NamedTuple):
    """What a held wait is waiting for now. Times are Unix seconds.

    Attributes:
        stage: `scheduled`; `queued`: due, and waiting for a free slot; `poking`; `ending`: its
            outcome is being stored.
        since: when it became due; None while scheduled.
        held_up_by: the limit that a queued wait has met: `origin_limit`, `unproven_origins` (too
            many pokes are at origins that, like this one, have not answered yet), `origin_pace`
            (it answers again after a fault), `poke_concurrency`; None: no limit, its turn is next.
        origin: the origin that it is queued at.
        origin_limit: how many pokes at a time the origin gets now.
        origin_running: how many are in progress there.
        origin_held_down: whether three timeouts in a row brought the limit down.
        quiet_until: when the `Retry-After` of the last answer ends; None: it had none.
    """

    stage: str
    since: float | None
    held_up_by: str | None
    origin: str
    origin_limit: int
    origin_running: int
    origin_held_down: bool
    quiet_until: float | None


class LiveWait(NamedTuple):
    """The state of a held wait, which may be newer than the stored one. Times are Unix seconds."""

    progress: Progress
    next_poke_at: float
    waiting_on: WaitingOn | None = None


class Poking(Protocol):
    """What the API needs of the poker."""

    def capacity_left(self) -> int:
        """How many more waits may be accepted."""

    def live(self, wait_id: str) -> LiveWait | None:
        """The state of a held wait; None if it is not held."""

    def poke_now(self, wait_id: str) -> bool:
        """Makes a held wait due now; False if it is not held."""
