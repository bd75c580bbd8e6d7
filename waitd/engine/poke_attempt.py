"""A poke under way: one look on behalf of a group of entries, from its start to its verdicts."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any

import structlog

from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.engine.held_wait import HeldWait
from waitd.engine.origins import OriginQueue

log = structlog.get_logger(__name__)

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")
PROBE_FAILED = Unreachable("internal_error", "The probe failed; the daemon's log has the traceback.")


class PokeAttempt:
    """One poke; a `waitd.ports.Landing`. It has a task only where its probe needs one.

    Attributes:
        started: when it was taken, monotonic seconds.
        cutoff: when it has had its time, monotonic seconds.
        expired: it has had its time.
        last: whether it is the poke at the deadline.
        task: where it needs one, while it runs.
    """

    __slots__ = ("_give_up", "_land", "cutoff", "expired", "group", "last", "origin", "started", "task")

    def __init__(
        self,
        group: Sequence[HeldWait],
        origin: OriginQueue,
        started: float,
        cutoff: float,
        land: Callable[["PokeAttempt", Sequence[Verdict]], None],
    ) -> None:
        """`land` is called with its verdicts, once."""
        self.group = group
        self.origin = origin
        self.started = started
        self.cutoff = cutoff
        self.expired = False
        self.last = group[0].last
        self.task: asyncio.Task[Sequence[Verdict]] | None = None
        self._land = land
        self._give_up: Callable[[], None] | None = None

    def take_off(self) -> None:
        """Asks."""
        kind = self.group[0].kind
        try:
            if kind.begin is not None:
                self._give_up = kind.begin(self.group, self)
        except Exception as error:  # noqa: BLE001 - logged there
            self._failed(error)
        else:
            if self._give_up is None:
                self.unfinished(kind.probe.poke(self.group))

    def landed(self, verdicts: Sequence[Verdict]) -> None:
        """See `Landing`."""
        self._give_up = None
        self._land(self, verdicts)

    def unfinished(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> None:
        """See `Landing`."""
        self._give_up = None
        self.task = asyncio.get_running_loop().create_task(rest, name="poke")
        self.task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Sequence[Verdict]]) -> None:
        self.task = None
        if not task.cancelled():
            error = task.exception()
            if error is None:
                self._land(self, task.result())
            else:
                self._failed(error)
        elif self.expired:
            self._land(self, [TIMED_OUT] * len(self.group))
        elif not task.cancelling():  # nobody here asked for it; else the daemon ends
            self._failed(asyncio.CancelledError())

    def _failed(self, error: BaseException) -> None:
        """A probe's defect is not the wait's end."""
        log.error("probe_failed", kind=self.group[0].kind.name, exc_info=error)
        self._land(self, [PROBE_FAILED] * len(self.group))

    def expire(self) -> None:
        """It has had its time."""
        self.cutoff = inf
        self.expired = True
        if self._give_up is not None:
            self._give_up()
            self.landed([TIMED_OUT] * len(self.group))
        elif self.task is not None:
            self.task.cancel()

    def give_up(self) -> None:
        """The daemon ends: nothing lands any more."""
        if self._give_up is not None:
            self._give_up()
        elif self.task is not None:
            self.task.cancel()
