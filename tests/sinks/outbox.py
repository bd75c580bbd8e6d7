"""A real store and deliverer around the sinks under test, with another sink as a comparison."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
from fakes import RecordingSink

from waitd.core.waits.delivery import AfterAttempt, DeliveryId
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, WaitId, WaitSpec, WaitState
from waitd.engine.clock import SystemClock
from waitd.engine.deliverer import Deliverer
from waitd.metrics import Instruments
from waitd.ports import (
    DeliveryFilter,
    Inserted,
    NewWait,
    Sink,
    StoredDelivery,
    UnstoredOutcome,
)
from waitd.stores import Database, Store, open_database

#: Seconds before each attempt: short and many, so that an outage of some seconds ends before the
#: last attempt.
RETRY_DELAYS = (0.0, 0.1, 0.2, 0.4, *(0.5,) * 60)


class ErrorRecordingStore(Store):
    """Records the error of each attempt: a delivered delivery has no `last_error`."""

    errors: ClassVar[dict[DeliveryId, list[str]]] = {}

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        await super().save_attempt(delivery_id, after, at)
        if after.last_error is not None:
            self.errors.setdefault(delivery_id, []).append(after.last_error)


class Outbox:
    """Inserts and finishes waits, and inspects their deliveries."""

    def __init__(
        self,
        database: Database,
        sinks: Mapping[str, Sink],
        *,
        retry_delays: Sequence[float],
        attempt_timeout: float,
        with_other_sink: bool,
    ) -> None:
        self.store = store = ErrorRecordingStore(
            database,
            destination_of=lambda _, sink: _destination(sinks, sink),
            retry_delays=retry_delays,
        )
        self._other = ({"kind": "other", "to": "other"},) if with_other_sink else ()
        self._tasks: set[asyncio.Task[None]] = set()
        self.other_sink = RecordingSink()
        self.instruments = Instruments(version="test")
        self.deliverer = Deliverer(
            store,
            {**sinks, "other": self.other_sink},
            SystemClock(),
            self.instruments,
            retry_delays=retry_delays,
            attempt_timeout=attempt_timeout,
            per_destination=32,
        )
        store.listeners = (self.deliverer,)

    async def add(self, count: int, *sinks: Mapping[str, Any]) -> list[WaitId]:
        """Inserts waits with these sinks, and the other sink if there is one."""
        spec = WaitSpec("http", {"endpoint": "/x"}, 60.0, 3600.0, sinks=(*sinks, *self._other))
        results = await self.store.insert([NewWait("default", spec) for _ in range(count)])
        return [result.wait.id for result in results if isinstance(result, Inserted)]

    async def finish(self, wait_id: WaitId, at: float, text: str = "grüße") -> None:
        payload = {"number": str(wait_id), "text": text}
        await self.store.finish(
            UnstoredOutcome(wait_id, EMPTY_PROGRESS, Outcome(WaitState.SUCCESS, payload), at)
        )

    async def finish_all(self, ids: Sequence[WaitId]) -> None:
        for wait_id in ids:
            await self.finish(wait_id, time.time())

    def spawn(self, finishing: Coroutine[Any, Any, None]) -> None:
        """Finishes a wait in the background."""
        task = asyncio.create_task(finishing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_until_settled(self, within: float) -> None:
        """Waits up to `within` seconds until no delivery is queued."""
        async with asyncio.timeout(within):
            while (await self.store.delivery_counts()).get("queued"):  # noqa: ASYNC110 - the store has no event to wait for
                await asyncio.sleep(0.05)

    async def deliveries(self, ids: Sequence[WaitId], kind: str) -> list[StoredDelivery]:
        """The waits' deliveries to sinks of this kind, oldest first."""
        wait_ids = set(ids)
        newest_first = await self.store.find_deliveries(DeliveryFilter(sink=kind, limit=100_000))
        return [delivery for delivery in reversed(newest_first) if delivery.wait_id in wait_ids]

    def delivered(self, kind: str) -> float:
        """How many deliveries succeeded, according to the metrics."""
        return float(self.instruments.deliveries.labels(kind, "delivered")._value.get())

    async def wait_for_error(self, ids: Sequence[WaitId], kind: str, *, pattern: str, within: float) -> None:
        """Waits until the `last_error` of one of these deliveries matches the pattern."""
        errors: list[str | None] = []
        try:
            async with asyncio.timeout(within):
                while not any(error and re.search(pattern, error) for error in errors):
                    await asyncio.sleep(0.02)
                    errors = [delivery.last_error for delivery in await self.deliveries(ids, kind)]
        except TimeoutError:
            raise AssertionError(f"no error matches {pattern!r}: {errors}") from None


@asynccontextmanager
async def outbox(
    path: Path,
    sinks: Mapping[str, Sink],
    *,
    retry_delays: Sequence[float] = RETRY_DELAYS,
    attempt_timeout: float = 5.0,
    with_other_sink: bool = True,
) -> AsyncIterator[Outbox]:
    running = Outbox(
        await open_database(f"sqlite+aiosqlite:///{path}"),
        sinks,
        retry_delays=retry_delays,
        attempt_timeout=attempt_timeout,
        with_other_sink=with_other_sink,
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.deliverer.run)
            yield running
            tasks.cancel_scope.cancel()
    finally:
        await running.store.close()


def _destination(sinks: Mapping[str, Sink], sink: Mapping[str, Any]) -> str:
    params = dict(sink)
    kind = params.pop("kind")
    return str(sinks[kind].parse(params).destination) if kind in sinks else "other"
