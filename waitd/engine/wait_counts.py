"""What is told of every wait that ends: its log line, its metrics, and how many waits there are in which state."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from waitd.core.waits.wait import WaitState
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait

log = structlog.get_logger(__name__)


class WaitCounts:
    """Counts waits by state and kind as they come and go; no query is needed for a scrape."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._counts: Counter[tuple[str, str]] = Counter()

    def reset(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Starts from what the store holds, by (state, kind)."""
        for key in self._counts:
            self._instruments.waits.labels(*key).set(0)
        self._counts = Counter(dict(counts))
        self.refresh_gauges()

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """New waits are on disk."""
        for kind, count in Counter([wait.spec.kind for wait in waits]).items():
            self._counts[WaitState.WAITING.value, kind] += count

    def on_finished(self, endings: Sequence[StoredOutcome]) -> None:
        """Waits have ended on disk."""
        for ended in endings:
            wait = ended.wait
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
        """How many waits wait, by kind."""
        return {
            kind: n for (state, kind), n in self._counts.items() if state == WaitState.WAITING.value and n > 0
        }

    def refresh_gauges(self) -> None:
        """Writes the counts into the gauge; called before a scrape."""
        for key, count in self._counts.items():
            self._instruments.waits.labels(*key).set(count)
