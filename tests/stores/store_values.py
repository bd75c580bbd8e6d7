"""Waits, ends and listeners that the store's tests share."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, Progress, WaitSpec, WaitState, record_verdict
from waitd.ports import Inserted, NewWait, StoredOutcome, StoredWait, UnstoredOutcome
from waitd.stores import Store

START = 1_750_000_000.0
RETRY_DELAYS = (0.0, 5.0, 30.0)
WEBHOOK = {"kind": "webhook", "url": "https://example.org/hook"}
OTHER_WEBHOOK = {"kind": "webhook", "url": "https://example.com/hook"}
AIRFLOW = {"kind": "airflow", "url": "https://airflow.example"}
DONE = Outcome(WaitState.SUCCESS, {"state": "DONE"}, "it is done", "success")
SEEN = record_verdict(EMPTY_PROGRESS, Pending("http_404", "not there yet"), START)


@dataclass
class WallClock:
    """A clock that stands still until it is moved."""

    at: float = START

    def __call__(self) -> float:
        return self.at


@dataclass
class News:
    """What the writer told, in order."""

    added: list[StoredWait] = field(default_factory=list)
    ended: list[StoredOutcome] = field(default_factory=list)
    redelivered: list[frozenset[str]] = field(default_factory=list)

    def listen(self, store: Store) -> None:
        store.on_added = self.added.extend
        store.on_ended = self.ended.extend
        store.on_redelivered = self.redelivered.append


def destination_of(namespace: str, sink: Mapping[str, Any]) -> str:
    if "url" not in sink:
        raise InvalidInput.at("/url", "is missing")
    return f"{sink['kind']} {sink['url']}"


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@asynccontextmanager
async def opened(path: Path, clock: WallClock | None = None) -> AsyncIterator[Store]:
    store = await Store.open(
        url_of(path), now=clock or WallClock(), retry_delays=RETRY_DELAYS, destination_of=destination_of
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
    }
    fields |= {"timeout": 600.0, "sinks": tuple(sinks), "labels": {"dag_id": "a"}} | spec
    return NewWait.of(namespace, WaitSpec(**fields), key, None if key is None else digest)


async def add(store: Store, *waits: NewWait) -> list[StoredWait]:
    """The stored waits, which must all have been taken."""
    answers = await store.insert(waits)
    assert all(isinstance(answer, Inserted) for answer in answers), answers
    return [answer.wait for answer in answers if isinstance(answer, Inserted)]


async def add_one(store: Store, **wait: Any) -> StoredWait:
    return (await add(store, new_wait(**wait)))[0]


def ending(
    wait: StoredWait, outcome: Outcome = DONE, progress: Progress = SEEN, at: float = START + 60
) -> UnstoredOutcome:
    return UnstoredOutcome(wait.id, progress, outcome, at)


async def ended(store: Store, **wait: Any) -> StoredWait:
    """A wait that was added and has ended."""
    stored = await add_one(store, **wait)
    result = await store.finish(ending(stored))
    assert result is not None
    return result.wait
