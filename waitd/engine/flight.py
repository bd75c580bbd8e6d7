"""A poke under way: one look on behalf of a group of entries, from its start to its verdicts."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any

import structlog

from waitd.core.verdict import Unreachable, Verdict
from waitd.engine.entry import Entry
from waitd.engine.origins import Origin

log = structlog.get_logger(__name__)

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")
PROBE_FAILED = Unreachable("internal_error", "The probe failed; the daemon's log has the traceback.")


class Flight:
    """One poke; a `waitd.ports.Landing`. It has a task only where its probe needs one.

    Attributes:
        started: when it was taken, monotonic seconds.
        cutoff: when it has had its time, monotonic seconds.
        expired: it has had its time.
        last: whether it is the poke at the deadline.
    """

    __slots__ = (
        "_give_up",
        "_land",
        "_task",
        "_tasks",
        "cutoff",
        "expired",
        "group",
        "last",
        "origin",
        "started",
    )

    _tasks: asyncio.TaskGroup
    _land: Callable[["Flight", Sequence[Verdict]], None]

    def __init__(self, group: Sequence[Entry], origin: Origin, started: float, cutoff: float) -> None:
        self.group = group
        self.origin = origin
        self.started = started
        self.cutoff = cutoff
        self.expired = False
        self.last = group[0].last
        self._give_up: Callable[[], None] | None = None
        self._task: asyncio.Task[Any] | None = None

    def take_off(self, tasks: asyncio.TaskGroup, land: Callable[["Flight", Sequence[Verdict]], None]) -> None:
        """Asks. `tasks`: where its task lives; `land` is called with its verdicts, once."""
        self._tasks = tasks
        self._land = land
        kind = self.group[0].kind
        try:
            if kind.begin is not None:
                self._give_up = kind.begin(self.group, self)
        except Exception:  # a probe's defect is not the wait's end
            log.exception("probe_failed", kind=kind.name)
            self.landed([PROBE_FAILED] * len(self.group))
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
        self._tasks.create_task(self._finish(rest), name="poke")

    async def _finish(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> None:
        self._task = asyncio.current_task()
        verdicts: Sequence[Verdict]
        try:
            verdicts = await rest
        except asyncio.CancelledError:
            if not self.expired:
                raise
            verdicts = [TIMED_OUT] * len(self.group)
        except Exception:  # a probe's defect is not the wait's end
            log.exception("probe_failed", kind=self.group[0].kind.name)
            verdicts = [PROBE_FAILED] * len(self.group)
        self._task = None
        self._land(self, verdicts)

    def expire(self) -> None:
        """It has had its time. Where its task has not begun yet, that is for the next sweep."""
        if self._give_up is not None:
            self.expired = True
            self._give_up()
            self.landed([TIMED_OUT] * len(self.group))
        elif self._task is not None:
            self.cutoff = inf
            self.expired = True
            self._task.cancel()

    def give_up(self) -> None:
        """The daemon ends; its task, if it has one, ends with the others."""
        if self._give_up is not None:
            self._give_up()
