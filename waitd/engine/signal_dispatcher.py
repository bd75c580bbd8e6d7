"""Pokes waits for news from outside: signals and new S3 objects.

A signal is on disk before it is dispatched, and stays there for a while, so that neither a crash
nor a wait that comes later misses it. News of S3 objects is not stored: the regular poke finds the
object.
"""

from collections.abc import Sequence

from waitd.core.waits.retention import RetentionHorizon
from waitd.engine.clock import Clock
from waitd.engine.poker import Poker
from waitd.engine.subscriptions import SIGNAL, Subscriptions
from waitd.metrics import Instruments
from waitd.ports import Signal, SignalStore, StoreListener

#: How many signals one transaction deletes.
PRUNE_ROWS = 1000


class SignalDispatcher(StoreListener):
    """Finds the waits that subscribe to news and pokes them. A `SignalReceiver`."""

    def __init__(
        self,
        store: SignalStore,
        poker: Poker,
        clock: Clock,
        instruments: Instruments,
        *,
        retention: float,
    ) -> None:
        """`retention`: how many seconds a signal is kept."""
        self._store = store
        self._poker = poker
        self._subscriptions: Subscriptions = poker.subscriptions
        self._clock = clock
        self._instruments = instruments
        self._horizon = RetentionHorizon(retention)

    async def load(self) -> None:
        """Loads the keys of stored signals; called before the first wait is held.

        Raises StoreUnavailable.
        """
        for signal in await self._store.signal_keys():
            self._subscriptions.signalled_at[signal.namespace, signal.key] = signal.received_at

    async def payloads(self, namespace: str, key: str) -> Sequence[object]:
        """The stored payloads under a key. Raises StoreUnavailable."""
        if (namespace, key) not in self._subscriptions.signalled_at:
            return ()
        return await self._store.signals(namespace, key)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """See `StoreListener`: pokes the waits that subscribe to signals."""
        for signal in signals:
            self._subscriptions.signalled_at[signal.namespace, signal.key] = signal.received_at
            self._poke_subscribers("signal", SIGNAL, signal.key, signal.namespace)

    def listening(self, namespace: str, key: str) -> int:
        """See `SignalReceiver`."""
        return len(self._subscriptions.matching(SIGNAL, key, namespace))

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        """See `SignalReceiver`."""
        return self._poke_subscribers(source, f"s3://{bucket}", key, namespace)

    def _poke_subscribers(self, source: str, channel: str, name: str, namespace: str | None) -> int:
        wait_ids = self._subscriptions.matching(channel, name, namespace)
        for wait_id in wait_ids:
            self._poker.news.poke_soon(wait_id)
        self._instruments.signals.labels(source).inc()
        self._instruments.wakeups.labels(source).inc(len(wait_ids))
        return len(wait_ids)

    def on_clock_step(self, moved: float) -> None:
        """Keeps signals for the retention, although the wall clock stepped by `moved` seconds."""
        self._horizon.on_clock_step(moved, self._clock.monotonic())

    async def prune(self) -> None:
        """Deletes signals that are older than the retention. Raises StoreUnavailable."""
        before = self._horizon.before(self._clock.now(), self._clock.monotonic())
        while deleted := await self._store.prune_signals(before, PRUNE_ROWS):
            for key in deleted:
                if self._subscriptions.signalled_at.get(key, before) < before:
                    del self._subscriptions.signalled_at[key]
