"""The engine, as the API needs it."""

from typing import NamedTuple, Protocol

from waitd.core.waits.wait import Progress


class WaitingOn(NamedTuple):
    """Where a wait in hand stands now, and who throttles it. Times are Unix seconds.

    Attributes:
        stage: `scheduled`; `queued`, it is due and waits for a place; `poking`; `ending`, its outcome is on its way to disk.
        since: when it became due; None while it is scheduled.
        held_up_by: what a queued one waits for: `origin_limit`, `unproven_origins` (too many pokes are at origins that have not
            answered yet, as this one has not), `poke_concurrency`; None: nothing, its turn is next.
        origin: where it queues.
        origin_limit: how many pokes at once the origin gets now.
        origin_running: how many it has.
        origin_held_down: whether that is because of three timeouts in a row.
        quiet_until: until when the last answer asked to be left alone (`Retry-After`, as sent); None where it did not.
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
    """What the poker knows of a wait in hand that the store may not know yet. Times are Unix seconds."""

    progress: Progress
    next_poke_at: float
    waiting_on: WaitingOn | None = None


class Poking(Protocol):
    """What the API needs of the poker."""

    def capacity_left(self) -> int:
        """How many more waits would be accepted now."""

    def live(self, wait_id: str) -> LiveWait | None:
        """What is known of a wait in hand; None where it is not held."""

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait in hand due at once; False where it is not held."""
