"""Reports the daemon's own trouble: in a metric, one log line for each spell, and `/readyz`."""

import structlog

from waitd.core.local_trouble import LocalTrouble
from waitd.core.waits.verdict import LOCAL_ERROR, Unreachable
from waitd.engine.clock import Clock
from waitd.metrics import Instruments

log = structlog.get_logger(__name__)


class TroubleLog:
    """The trouble of one daemon, as its parts met it.

    Attributes:
        trouble: decides what is the daemon's own.
    """

    def __init__(self, clock: Clock, instruments: Instruments) -> None:
        self.trouble = LocalTrouble()
        self._clock = clock
        self._instruments = instruments

    @property
    def current(self) -> str:
        """The trouble that lasts now, in words; "" if there is none."""
        return self.trouble.current(self._clock.monotonic())

    def own_trouble(self, verdict: Unreachable, origin: str, met_by: str) -> str | None:
        """The daemon's trouble behind a verdict, which is reported; None if it is the origin's."""
        trouble: str | None = verdict.message
        if verdict.reason != LOCAL_ERROR:
            trouble = self.trouble.judge(verdict, origin, self._clock.monotonic())
        if trouble is not None:
            self.report(trouble, met_by)
        return trouble

    def report(self, trouble: str, met_by: str) -> None:
        """Notes a trouble that a part met, e.g. `pokes`."""
        self._instruments.local_errors.labels(met_by).inc()
        if self.trouble.report(trouble, self._clock.monotonic()):
            log.error("local_trouble", why=trouble, met_by=met_by)
