"""The one task that writes. It takes what is queued, commits it as one transaction, hands over, and answers.

The more there is to do, the more one transaction carries: throughput grows with load, and nobody waits on purpose.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import StoreUnavailable
from waitd.core.waits.wait import Progress, WaitId
from waitd.ports import Signal, StoredOutcome, StoredWait
from waitd.stores.database import Database, means_unavailable
from waitd.stores.operations import audit, costs, jobs, keys, outbox, signals
from waitd.stores.operations import finish as ending
from waitd.stores.operations import insert as adding
from waitd.stores.operations import maintenance as upkeep
from waitd.stores.operations import redelivery as anew
from waitd.stores.operations.known_values import KnownValues
from waitd.stores.operations.requests import (
    Cancel,
    CheckWritable,
    DeleteKeys,
    FinishWait,
    Insert,
    Operation,
    Prune,
    PruneAudit,
    PruneSignals,
    Redeliver,
    RedeliverEach,
    SaveAttempt,
    SaveJobCancel,
    SaveKeys,
    SaveOverhead,
    SaveProgress,
    SaveSignal,
    SaveSubmission,
)
from waitd.stores.operations.transaction import RetentionRules, Transaction, sliced

#: Rows after which a group is closed, so that nobody waits long for the rest; one larger operation is a group of its own.
GROUP_ROWS = 5_000
#: How many waits one call of a listener gets.
_HAND_OVER = 500

Kind = TypeVar("Kind", bound=Operation)
log = structlog.get_logger()


def nobody(_: Any) -> None:
    """The listener until there is one; and who holds a wait until somebody does."""


def nothing(_: StoredWait, __: float) -> None:
    """Who measures waits until somebody does."""


class Writer:
    """Runs from `start` to `close`.

    Attributes:
        failing: the last write could not be made.
        on_added: called with new waiting waits after COMMIT, before their callers have their answer.
        on_ended: the same with every wait that ended, whoever ended it.
        on_redelivered: the same with the destinations that have something due anew.
        on_signals: the same with signals that came.
        measured: asked what a wait has used that ends after so many seconds; None: nobody measures.
        live_progress: asked what a wait has learned that is ended here (cancelled, superseded) and not by its poker.
        finished_seq: the number of the last end on disk.
    """

    def __init__(self, database: Database, rules: RetentionRules, finished_seq: int) -> None:
        self.failing = False
        self.on_added: Callable[[Sequence[StoredWait]], None] = nobody
        self.on_ended: Callable[[Sequence[StoredOutcome]], None] = nobody
        self.on_redelivered: Callable[[frozenset[str]], None] = nobody
        self.on_signals: Callable[[Sequence[Signal]], None] = nobody
        self._database = database
        self._rules = rules
        self.live_progress: Callable[[WaitId], Progress | None] = nobody
        self.measured: Callable[[StoredWait, float], MeasuredUsage | None] = nothing
        self._known_values = KnownValues()
        self.finished_seq = finished_seq
        self._queue: deque[Operation] = deque()
        self._wakeup = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task on the running loop."""
        self._task = asyncio.create_task(self._run(), name="store-writer")

    async def close(self) -> None:
        """Writes what is queued, and ends. New operations are refused from now on."""
        self._closing = True
        self._wakeup.set()
        if self._task is not None:
            await self._task

    async def do(self, operation: Operation) -> Any:
        """Queues `operation` and waits for its answer. A caller that is cancelled meanwhile takes nothing back.

        Raises:
            StoreUnavailable: nothing was written.
        """
        if self._closing:
            raise StoreUnavailable("the store is closed")
        self._queue.append(operation)
        self._wakeup.set()
        return await operation.future

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._wakeup.wait()
            await asyncio.sleep(0)  # those that became ready together come along
            while self._queue:
                await self._commit(self._next_group())
            if not self._closing:
                self._wakeup.clear()

    def _next_group(self) -> list[Operation]:
        group = [self._queue.popleft()]
        rows = group[0].rows
        while self._queue and rows + self._queue[0].rows <= GROUP_ROWS:
            rows += self._queue[0].rows
            group.append(self._queue.popleft())
        return group

    async def _commit(self, group: list[Operation]) -> None:
        try:
            transaction = await self._write(group)
        except Exception as error:  # noqa: BLE001 - the writer outlives whatever happens to a group
            await self._explain(group, error)
            return
        if self.failing:
            self.failing = False
            log.info("store_writable_again")
        self.finished_seq = transaction.finished_seq
        await self._hand_over(transaction)
        for operation in group:
            _settle(operation, operation.answer)

    async def _write(self, group: Sequence[Operation]) -> Transaction:
        """One transaction. All in it were queued before any was answered, so any order is right; this one needs no second look."""
        of = _Sorted(group).of
        async with self._database.writing() as connection:
            transaction = Transaction(
                connection,
                self._rules,
                self._rules.now(),
                self.finished_seq,
                self.live_progress,
                self.measured,
                self._known_values,
            )
            # Attempts before waits that may supersede: what was delivered, was.
            outbox.save_attempts(transaction, of(SaveAttempt))
            await upkeep.save_progress(transaction, of(SaveProgress))
            # Marks before the ends that must know of them.
            await jobs.save_submissions(transaction, of(SaveSubmission))
            await adding.apply(transaction, of(Insert))
            await ending.finish(transaction, of(FinishWait))
            await ending.cancel(transaction, of(Cancel))
            await anew.redeliver(transaction, of(Redeliver))
            await anew.redeliver_each(transaction, of(RedeliverEach))
            keys.save(transaction, of(SaveKeys))
            keys.delete(transaction, of(DeleteKeys))
            await signals.keep(transaction, of(SaveSignal))
            audit.record(transaction, group)
            await audit.prune(transaction, of(PruneAudit))
            jobs.save_job_cancels(transaction, of(SaveJobCancel))
            await signals.prune(transaction, of(PruneSignals))
            costs.save_overhead(transaction, of(SaveOverhead))
            await upkeep.prune(transaction, of(Prune))
            upkeep.check_writable(transaction, of(CheckWritable))
        return transaction

    async def _explain(self, group: list[Operation], error: Exception) -> None:
        if isinstance(error, SQLAlchemyError | sqlite3.Error) and means_unavailable(error):
            reason = str(getattr(error, "orig", None) or error)
            if not self.failing:
                self.failing = True
                log.error("store_not_writable", reason=reason)
            for operation in group:
                _settle(operation, StoreUnavailable(f"the database cannot be written now: {reason}"))
        elif len(group) > 1:  # one of them is the trouble: the others are not to suffer
            for operation in group:
                await self._commit([operation])
        else:
            log.error("store_operation_failed", operation=type(group[0]).__name__, exc_info=error)
            _settle(group[0], error)

    async def _hand_over(self, transaction: Transaction) -> None:
        async for added in sliced(transaction.added, _HAND_OVER):
            _tell(self.on_added, added)
        async for ended in sliced(transaction.ended, _HAND_OVER):
            _tell(self.on_ended, ended)
        if transaction.redelivered:
            _tell(self.on_redelivered, frozenset(transaction.redelivered))
        if transaction.signals:
            _tell(self.on_signals, transaction.signals)


class _Sorted:
    """The operations of a group by their kind."""

    def __init__(self, group: Sequence[Operation]) -> None:
        self._by_kind: dict[type[Operation], list[Any]] = {}
        for operation in group:
            self._by_kind.setdefault(type(operation), []).append(operation)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Those of one kind, in their order."""
        return self._by_kind.get(kind, [])


def _tell(listener: Callable[[Any], None], news: Any) -> None:
    try:
        listener(news)
    except Exception:  # a listener's defect must not keep callers from their answer; it is on disk
        log.exception("store_listener_failed")


def _settle(operation: Operation, answer: Any) -> None:
    if operation.future.done():  # its caller went away
        return
    if isinstance(answer, Exception):
        operation.future.set_exception(answer)
    else:
        operation.future.set_result(answer)
