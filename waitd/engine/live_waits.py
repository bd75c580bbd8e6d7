"""The current state of held waits: their progress, and what each is waiting for."""

from collections.abc import Mapping, Sized

from waitd.core.waits.wait import Progress
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, find_origin
from waitd.engine.origins import Origins
from waitd.ports import LiveWait, WaitingOn


class LiveWaits:
    """A view of the held waits, which may be newer than the store."""

    def __init__(
        self,
        held: Mapping[str, HeldWait],
        origins: Origins,
        clock: Clock,
        *,
        in_progress: Sized,
        poke_concurrency: int,
    ) -> None:
        """Creates a view.

        Args:
            held: the held waits by id.
            origins: the queues of due waits.
            clock: wall and monotonic time.
            in_progress: the pokes in progress.
            poke_concurrency: how many of them there may be.
        """
        self._held = held
        self._origins = origins
        self._clock = clock
        self._in_progress = in_progress
        self._poke_concurrency = poke_concurrency

    def get(self, wait_id: str) -> LiveWait | None:
        """Returns the current state of a wait; None when it is not held."""
        held = self._held.get(wait_id)
        if held is None:
            return None
        now, ahead = self._clock.now(), held.due - self._clock.monotonic()
        return LiveWait(held.progress, now + max(0.0, ahead), self._waiting_on(held, now + ahead))

    def progress(self, wait_id: str) -> Progress | None:
        """Returns the progress of a wait up to its last poke; None when it is not held."""
        held = self._held.get(wait_id)
        return None if held is None else held.progress

    def _waiting_on(self, held: HeldWait, due: float) -> WaitingOn:
        """`due` is when the wait was or will be due, in Unix seconds."""
        origin = self._origins.get(find_origin(held))
        stage, held_up_by = "scheduled", None
        if held.ended:
            stage = "ending"
        elif held.in_flight:
            stage = "poking"
        elif held.queued or held.final:
            stage = "queued"
            if not held.final:  # no limit applies to the final poke
                full = "poke_concurrency" if len(self._in_progress) >= self._poke_concurrency else None
                held_up_by = self._origins.full(origin) or full
        return WaitingOn(
            stage=stage,
            since=None if stage == "scheduled" else due,
            held_up_by=held_up_by,
            origin=origin.name,
            origin_limit=int(origin.limit),
            origin_running=origin.running,
            origin_held_down=origin.held_down,
            quiet_until=held.quiet_until,
        )
