"""One poke on behalf of a group of waits, from its start to its verdicts."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf

import structlog

from waitd.core.local_trouble import local_trouble, local_verdict
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.engine.held_wait import HeldWait
from waitd.engine.origins import OriginQueue
from waitd.ports import CancelPoke

log = structlog.get_logger(__name__)

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")
PROBE_FAILED = Unreachable("internal_error", "The probe failed; the daemon's log has the traceback.")


class PokeAttempt:
    """A poke in progress.

    Attributes:
        started: when it started, monotonic seconds.
        cutoff: when it times out, monotonic seconds.
        expired: whether it has timed out.
        final: whether it is the final poke, the one at the deadline.
    """

    __slots__ = (
        "_cancel",
        "_on_done",
        "_stopped",
        "cutoff",
        "expired",
        "final",
        "group",
        "origin",
        "started",
    )

    def __init__(
        self,
        group: Sequence[HeldWait],
        origin: OriginQueue,
        started: float,
        cutoff: float,
        on_done: Callable[["PokeAttempt", Sequence[Verdict]], None],
    ) -> None:
        """`on_done` is called once, with a verdict for each wait, or with none after `stop`."""
        self.group = group
        self.origin = origin
        self.started = started
        self.cutoff = cutoff
        self.expired = self._stopped = False
        self.final = group[0].final
        self._on_done = on_done
        self._cancel: CancelPoke | None = None

    def start(self) -> None:
        """Starts the poke."""
        try:
            self._cancel = self.group[0].kind.probe.start_poke(self.group, self._on_probe_done)
        except Exception as error:  # noqa: BLE001 - a defect of the probe, which `_on_probe_done` logs
            self._on_probe_done(error)

    def _on_probe_done(self, result: Sequence[Verdict] | BaseException) -> None:
        """Gets what the probe answers: verdicts, an exception, or its cancellation."""
        self._cancel = None
        if not isinstance(result, BaseException):
            if len(result) == len(self.group):
                self._on_done(self, result)
                return
            result = RuntimeError(f"{len(result)} verdicts on {len(self.group)} waits")
        if isinstance(result, asyncio.CancelledError) and self.expired:
            self._on_done(self, [TIMED_OUT] * len(self.group))
        elif isinstance(result, asyncio.CancelledError) and self._stopped:
            self._on_done(self, [])
        elif trouble := local_trouble(result):
            self._on_done(self, [local_verdict(trouble)] * len(self.group))
        else:  # a defect of the probe does not end the wait
            log.error("probe_failed", kind=self.group[0].kind.name, exc_info=result)
            self._on_done(self, [PROBE_FAILED] * len(self.group))

    def expire(self) -> None:
        """Times the poke out: cancels it, and its verdict is `timeout`."""
        self.cutoff = inf
        self.expired = True
        self._cancel_poke()

    def stop(self) -> None:
        """Cancels the poke because the poker stops: there is no verdict."""
        self._stopped = True
        self._cancel_poke()

    def _cancel_poke(self) -> None:
        if self._cancel is not None:
            self._cancel()
