"""Waits, outcomes and listeners that the store's tests share."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waitd.core.auth.quotas import KeptLimits
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import AfterAttempt, DeliveryId, DeliveryState
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import (
    EMPTY_PROGRESS,
    Outcome,
    Progress,
    WaitId,
    WaitSpec,
    WaitState,
    record_verdict,
)
from waitd.ports import (
    Inserted,
    NewWait,
    OutboxItem,
    Signal,
    StoredDelivery,
    StoredOutcome,
    StoredWait,
    StoreListener,
    UnstoredOutcome,
)
from waitd.stores import CostRules, Store, open_database

START = 1_750_000_000.0
RETRY_DELAYS = (0.0, 5.0, 30.0)
WEBHOOK = {"kind": "webhook", "url": "https://example.org/hook"}
OTHER_WEBHOOK = {"kind": "webhook", "url": "https://example.com/hook"}
HOOK, OTHER_HOOK = f"webhook {WEBHOOK['url']}", f"webhook {OTHER_WEBHOOK['url']}"
AIRFLOW = {"kind": "airflow", "url": "https://airflow.example"}
DONE = Outcome(WaitState.SUCCESS, {"state": "DONE"}, "it is done", "success")
SEEN = record_verdict(EMPTY_PROGRESS, Pending("http_404", "not there yet"), START)


@dataclass
class WallClock:
    """A clock that a test sets."""

    at: float = START

    def __call__(self) -> float:
        return self.at


@dataclass
class RecordingListener(StoreListener):
    """Records what the store reports; `live` and `usage` are about waits that end."""

    inserted: list[StoredWait] = field(default_factory=list)
    finished: list[StoredOutcome] = field(default_factory=list)
    redelivered: list[frozenset[str]] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    live: dict[WaitId, Progress] = field(default_factory=dict)
    usage: Callable[[StoredWait, float], MeasuredUsage | None] = lambda _, __: None

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        self.inserted += waits

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        self.finished += outcomes

    def on_redelivered(self, destinations: frozenset[str]) -> None:
        self.redelivered.append(destinations)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        self.signals += signals

    def live_progress(self, wait_id: WaitId) -> Progress | None:
        return self.live.get(wait_id)

    def measure(self, wait: StoredWait, seconds: float) -> MeasuredUsage | None:
        return self.usage(wait, seconds)


def destination_of(namespace: str, sink: Mapping[str, Any]) -> str:
    if "url" not in sink:
        raise InvalidInput.at("/url", "is missing")
    return f"{sink['kind']} {sink['url']}"


def url_of(path: Path | None) -> str:
    """The URL of a database; None: in memory."""
    return f"sqlite+aiosqlite:///{path or ''}"


@asynccontextmanager
async def opened(
    path: Path | None,
    clock: WallClock | None = None,
    listener: StoreListener | None = None,
    costs: CostRules | None = None,
    limits: KeptLimits | None = None,
) -> AsyncIterator[Store]:
    recorder = listener if isinstance(listener, RecordingListener) else RecordingListener()
    store = Store(
        await open_database(url_of(path)),
        destination_of=destination_of,
        listeners=() if listener is None else (listener,),
        live_progress=recorder.live_progress,
        measure=recorder.measure,
        now=clock or WallClock(),
        retry_delays=RETRY_DELAYS,
        costs=costs,
        limits=limits,
    )
    try:
        yield store
    finally:
        await store.close()


def new_wait(
    *,
    namespace: str = "default",
    key: str | None = None,
    digest: bytes = b"d" * 32,
    sinks: Sequence[Mapping[str, Any]] = (WEBHOOK,),
    **spec: Any,
) -> NewWait:
    fields: dict[str, Any] = {
        "kind": "http",
        "params": {"endpoint": "https://example.org/job"},
        "poke_interval": 30.0,
        "timeout": 600.0,
        "sinks": tuple(sinks),
        "labels": {"dag_id": "a"},
    } | spec
    return NewWait(namespace, WaitSpec(**fields), key, None if key is None else digest)


async def add(store: Store, *waits: NewWait) -> list[StoredWait]:
    """Inserts waits, which must all be accepted."""
    results = await store.insert(waits)
    assert all(isinstance(result, Inserted) for result in results), results
    return [result.wait for result in results if isinstance(result, Inserted)]


async def add_one(store: Store, **wait: Any) -> StoredWait:
    return (await add(store, new_wait(**wait)))[0]


def ending(
    wait: StoredWait, outcome: Outcome = DONE, progress: Progress = SEEN, at: float = START + 60
) -> UnstoredOutcome:
    return UnstoredOutcome(wait.id, progress, outcome, at)


async def finish(store: Store, wait: StoredWait, *args: Any, **kwargs: Any) -> StoredOutcome:
    """Ends a wait, which must be waiting; the arguments are those of `ending`."""
    stored = await store.finish(ending(wait, *args, **kwargs))
    assert stored is not None
    return stored


async def ended(store: Store, *, at: float = START + 60, **wait: Any) -> StoredWait:
    """Inserts a wait and ends it."""
    return (await finish(store, await add_one(store, **wait), at=at)).wait


async def due(
    store: Store,
    destination: str = HOOK,
    now: float = START,
    limit: int = 100,
    exclude: frozenset[DeliveryId] = frozenset(),
) -> Sequence[OutboxItem]:
    """The deliveries to a destination that are due."""
    return await store.due_items(destination, now, limit, exclude)


async def all_waiting(store: Store) -> list[WaitId]:
    """The ids of the waits that a start loads, two at a time."""
    ids: list[WaitId] = []
    while page := await store.load_waiting(ids[-1] if ids else None, 2):
        ids += [wait.id for wait in page]
    return ids


async def settle(
    store: Store, wait: StoredWait, state: DeliveryState = DeliveryState.DELIVERED
) -> list[StoredDelivery]:
    """Ends the wait's queued deliveries in `state`; returns all its deliveries."""
    for delivery in (await store.get(wait.id)).deliveries:
        await store.save_attempt(delivery.id, AfterAttempt(state, 3, None, None), START)
    return list((await store.get(wait.id)).deliveries)
