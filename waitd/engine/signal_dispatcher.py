"""News from outside, on its way to the waits that listen to it: each is poked at once, and the poke finds out what there is.

A signal is on disk before it is heard, and stays there for a while, so that neither a crash nor a wait that comes later misses it. News
of S3 is not kept: polling is the net.
"""

from collections.abc import Sequence

from waitd.engine.clock import Clock
from waitd.engine.listeners import SIGNAL, Listeners
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import Signal, SignalStore

#: How many signals one transaction deletes.
CHUNK = 1000


class SignalDispatcher:
    """Hears. One per daemon. `retention`: for how many seconds a signal is kept."""

    def __init__(
        self,
        store: SignalStore,
        poker: Poker,
        clock: Clock,
        instruments: Instruments,
        *,
        retention: float,
    ) -> None:
        self._store = store
        self._poker = poker
        self._listeners: Listeners = poker.listeners
        self._clock = clock
        self._instruments = instruments
        self._retention = retention

    async def load(self) -> None:
        """Learns which signals are kept; before the first wait is taken in hand. Raises StoreUnavailable."""
        for signal in await self._store.signal_keys():
            self._listeners.signalled[signal.namespace, signal.key] = signal.received_at

    async def payloads(self, namespace: str, key: str) -> Sequence[object]:
        """The payloads that are kept under a key. Raises StoreUnavailable."""
        if (namespace, key) not in self._listeners.signalled:
            return ()
        return await self._store.signals(namespace, key)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Signals are on disk."""
        for signal in signals:
            self._listeners.signalled[signal.namespace, signal.key] = signal.received_at
            self._wake("signal", SIGNAL, signal.key, signal.namespace)

    def listening(self, namespace: str, key: str) -> int:
        """How many waits listen to a key now."""
        return len(self._listeners.hearing(SIGNAL, key, namespace))

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        """A key has come, `source` says; how many waits are poked for it. `namespace` None: of any."""
        return self._wake(source, f"s3://{bucket}", key, namespace)

    def _wake(self, source: str, place: str, name: str, namespace: str | None) -> int:
        waits = self._listeners.hearing(place, name, namespace)
        for wait_id in waits:
            self._poker.poke_soon(wait_id)
        self._instruments.signals.labels(source).inc()
        self._instruments.wakeups.labels(source).inc(len(waits))
        return len(waits)

    async def prune(self) -> None:
        """Forgets signals that are older than the retention. Raises StoreUnavailable."""
        before = self._clock.now() - self._retention
        while gone := await self._store.prune_signals(before, CHUNK):
            for key in gone:
                if self._listeners.signalled.get(key, before) < before:
                    del self._listeners.signalled[key]
