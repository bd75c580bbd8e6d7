"""Counts waits by state and kind, and logs and measures each wait that ends."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from waitd.core.waits.wait import WaitState
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, StoreListener

log = structlog.get_logger(__name__)


class WaitCounts(StoreListener):
    """The number of waits by state and kind, kept up to date so that a scrape needs no query."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._counts: Counter[tuple[str, str]] = Counter()

    def reset(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Replaces the counts by the store's, by (state, kind)."""
        for key in self._counts:
            self._instruments.waits.labels(*key).set(0)
        self._counts = Counter(dict(counts))
        self.refresh_gauges()

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """Counts new waits."""
        for kind, count in Counter([wait.spec.kind for wait in waits]).items():
            self._counts[WaitState.WAITING.value, kind] += count

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Counts, measures and logs waits that have ended."""
        for stored in outcomes:
            wait = stored.wait
            kind, state = wait.spec.kind, wait.state.value
            self._counts[WaitState.WAITING.value, kind] -= 1
            self._counts[state, kind] += 1
            seconds = max(0.0, (wait.finished_at or wait.created_at) - wait.created_at)
            self._instruments.waits_finished.labels(kind, state).inc()
            self._instruments.wait_duration.observe(seconds)
            outcome = wait.outcome
            log.info(
                "wait_ended",
                wait_id=wait.id,
                namespace=wait.namespace,
                kind=kind,
                state=state,
                reason=outcome.reason if outcome else "",
                message=outcome.message if outcome else "",
                seconds=round(seconds, 3),
                pokes=wait.progress.pokes,
                sinks=len(wait.spec.sinks),
                labels=dict(wait.spec.labels),
            )

    def waiting(self) -> Mapping[str, int]:
        """The number of waiting waits by kind."""
        return {
            kind: n for (state, kind), n in self._counts.items() if state == WaitState.WAITING.value and n > 0
        }

    def refresh_gauges(self) -> None:
        """Sets the gauges; called before a scrape."""
        for key, count in self._counts.items():
            self._instruments.waits.labels(*key).set(count)
