"""What the store reports to the engine and the API."""

from collections.abc import Sequence

from waitd.ports.signals import Signal
from waitd.ports.store import StoredOutcome, StoredWait


class StoreListener:
    """A listener that ignores everything; a subclass overrides what it needs.

    The `on_…` methods are called on the event loop after COMMIT and before the callers of the store
    get their answers. They must not block. An exception is logged and harms neither the store nor
    its callers.
    """

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """New waits are stored and waiting."""

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Waits have ended: finished, cancelled or superseded.

        A wait that was superseded in the transaction that inserted it was never passed to
        `on_inserted`.
        """

    def on_redelivered(self, destinations: frozenset[str]) -> None:
        """Deliveries to these destinations were queued again."""

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Signals are stored."""

    def on_clock_stepped(self, moved: float) -> None:
        """The schedules on disk were moved with a wall clock that stepped by `moved` seconds.

        From now on, the store's `now` must be that of the new clock.
        """
