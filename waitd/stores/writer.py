"""The one task that writes: it commits what is queued as one transaction and answers the callers.

A group commit: the more is queued, the more one transaction carries, so throughput grows with load.
The writer never delays a commit to collect more work. Callers of one namespace wait for its own
commands, not for those of others.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.audit import Caller
from waitd.ports import Inserted, NewWait, StoreListener
from waitd.stores.codec import sliced
from waitd.stores.command_queue import CommandQueue
from waitd.stores.database import Database, DatabaseFault
from waitd.stores.operations import (
    api_keys,
    audit,
    costs,
    finish,
    insert,
    jobs,
    maintenance,
    outbox,
    redelivery,
    schedules,
    signals,
)
from waitd.stores.operations.commands import (
    Cancel,
    CheckWritable,
    ClampAttempts,
    Command,
    CommandExecutor,
    DeleteApiKeys,
    DeleteEnded,
    FinishWait,
    Insert,
    PruneAudit,
    PruneSignals,
    PruneWaits,
    Redeliver,
    RedeliverEach,
    SaveApiKeys,
    SaveAttempt,
    SaveJobCancel,
    SaveOverhead,
    SaveProgress,
    SaveSignal,
    SaveSubmission,
    ShiftSchedules,
)
from waitd.stores.operations.transaction import LabelValues, StoreRules, Transaction
from waitd.stores.queries.waits import rows_by_id
from waitd.stores.reads import StoreReads
from waitd.stores.unreadable import DAMAGE_REMEDY

#: How many waits the listener gets in one call.
_NOTIFY_SLICE = 100

#: What writes the commands of each type, in this order. All commands of a group were queued before
#: any was answered, so every order is correct. In this one no row is written twice.
_ORDER: tuple[
    tuple[type[Command[Any]], Callable[[Transaction, Sequence[Any]], Awaitable[None] | None]], ...
] = (
    # Attempts before inserts, which may supersede: a delivery that was made stays delivered.
    (SaveAttempt, outbox.save_attempts),
    (SaveProgress, maintenance.save_progress),
    # Submissions before the ends, which decide by them whether to cancel the job.
    (SaveSubmission, jobs.save_submissions),
    (Insert, insert.insert),
    # An end writes its event and its deliveries, too.
    (FinishWait, finish.finish),
    (Cancel, finish.cancel),
    (Redeliver, redelivery.redeliver),
    (RedeliverEach, redelivery.redeliver_each),
    (SaveApiKeys, api_keys.save),
    (DeleteApiKeys, api_keys.delete),
    (SaveSignal, signals.save),
    (PruneAudit, audit.prune),
    (SaveJobCancel, jobs.save_job_cancels),
    (PruneSignals, signals.prune),
    (SaveOverhead, costs.save_overhead),
    (PruneWaits, maintenance.prune),
    (DeleteEnded, maintenance.delete_ended),
    (ShiftSchedules, schedules.shift),
    (ClampAttempts, schedules.clamp),
    (CheckWritable, maintenance.check_writable),
)

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class Writer(StoreReads, CommandExecutor):
    """Executes commands. Of the writes it offers `insert`, with which the way of a wait begins.

    Attributes:
        failure: why the last write failed; "" if it did not.
        finished_seq: the number of the last event on disk.
        usage: how much each namespace and each principal has on disk.
        listeners: what is called about every change, in this order.
    """

    def __init__(self, database: Database, rules: StoreRules, listeners: Sequence[StoreListener]) -> None:
        """Starts to write, on the running loop."""
        super().__init__(database)
        self.failure = ""
        self.finished_seq = database.finished_seq
        self.usage = database.usage
        self.listeners = listeners
        self._rules = rules
        self._label_values = LabelValues()
        self._queue = CommandQueue()
        self._wakeup = asyncio.Event()
        self._closing = False
        self._logged_damage = False
        self._task = asyncio.create_task(self._run(), name="store-writer")

    async def close(self) -> None:
        """Commits what is queued, then closes the database.

        Later writes raise `StoreUnavailable`.
        """
        self._closing = True
        self._wakeup.set()
        await self._task
        await self._database.close()

    async def insert(
        self, new_waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence[Inserted | Exception]:
        """See `ApiStore`. Gives each wait its id and deadline, and stores them.

        `insert.insert` writes the rows and adds the waits to `transaction.inserted`. A wait with
        invalid text gets `InvalidInput` as its answer; the others are stored.
        """
        return await self._execute(await insert.make_command(new_waits, self._rules.now(), by))

    async def _execute(self, command: Command[Answer]) -> Answer:
        """See `CommandExecutor`."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        self._queue.append(command)
        self._wakeup.set()
        return await command.future

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._wakeup.wait()
            await asyncio.sleep(0)  # lets tasks that became ready together queue their commands, too
            while self._queue:
                await self._commit(self._queue.next_group())
            if not self._closing:
                self._wakeup.clear()

    async def _commit(self, group: list[Command[Any]], *, part: bool = False) -> bool:
        """Writes a group, or `part` of one that cannot be written as a whole; returns if it did."""
        try:
            transaction = await self._write(group)
        except Exception as error:  # noqa: BLE001 - no failure of a group may end the writer
            if len(group) > 1 and self._database.fault_of(error) is DatabaseFault.FULL:
                return await self._commit_halves(_in_order(group), error)
            await self._on_failure(group, error)
            return False
        if self.failure and not part:
            self.failure = ""
            log.info("store_writable_again")
        self.finished_seq = transaction.finished_seq
        self.usage.add(transaction.changes)
        await self._notify(transaction)
        for command in group:
            _answer(command, command.answer)
        return True

    async def _commit_halves(self, group: list[Command[Any]], error: Exception) -> bool:
        """Writes a group in two transactions: the disk may have no room for the log of one."""
        half = len(group) // 2
        if await self._commit(group[:half], part=True):
            return await self._commit(group[half:], part=True)
        self._refuse(group[half:], error, DatabaseFault.FULL)
        return False

    async def _write(self, group: Sequence[Command[Any]]) -> Transaction:
        """Writes a group in one transaction, in the order of `_ORDER`."""
        commands: defaultdict[type[Command[Any]], list[Any]] = defaultdict(list)
        for command in group:
            commands[type(command)].append(command)
        async with self._database.writing() as connection:
            transaction = Transaction(
                connection,
                self._rules,
                self._rules.now(),
                self.finished_seq,
                self._label_values,
                self._database.unreadable,
                self.usage,
            )
            for kind, operation in _ORDER:
                if kind in commands:
                    done = operation(transaction, commands[kind])
                    if done is not None:
                        await done
            audit.record(transaction, group)
        return transaction

    async def _on_failure(self, group: list[Command[Any]], error: Exception) -> None:
        fault = self._database.fault_of(error)
        if isinstance(error, StoreUnavailable):  # the files were lost, which is logged
            self.failure = str(error)
            for command in group:
                _answer(command, error)
        elif fault in {DatabaseFault.UNAVAILABLE, DatabaseFault.FULL}:
            self._refuse(group, error, fault)
        elif len(group) > 1:  # one command is defective; each is written by itself
            for command in _in_order(group):
                await self._commit([command], part=True)
        elif fault is DatabaseFault.DAMAGE:
            await self._on_damage(group[0], error)
        elif fault is DatabaseFault.STATEMENT:  # e.g. a trigger that someone added
            self._refuse(group, error, fault)
        else:
            log.error("store_operation_failed", operation=type(group[0]).__name__, exc_info=error)
            _answer(group[0], error)

    def _refuse(self, group: Sequence[Command[Any]], error: Exception, fault: DatabaseFault) -> None:
        reason = f"{error}; {DAMAGE_REMEDY}" if fault is DatabaseFault.DAMAGE else str(error)
        if not self.failure:
            log.error("store_not_writable", reason=reason, operation=type(group[0]).__name__)
        self.failure = reason
        for command in group:
            _answer(command, StoreUnavailable(f"the database cannot be written now: {reason}"))

    async def _on_damage(self, command: Command[Any], error: Exception) -> None:
        """Sets aside the row that a command cannot write, so that no one retries it for ever."""
        unreadable = self._database.unreadable
        match command:
            case SaveProgress(progress=rows) if len(rows) > 1:
                parts = [SaveProgress([row]) for row in rows]
                for part in parts:
                    await self._commit([part], part=True)
                await asyncio.gather(*(part.future for part in parts), return_exceptions=True)
            case SaveProgress(progress=[(wait_id, _)]):
                await self._set_aside_if_damaged(wait_id, error)
            case FinishWait(outcome=end):
                if not await self._set_aside_if_damaged(end.id, error):
                    _answer(command, StoreUnavailable(f"the page beside this wait's row is damaged: {error}"))
                    return
                finish.log_unstored(end, str(error))
            case SaveAttempt(delivery_id=delivery_id):
                unreadable.add("deliveries", delivery_id, error)
            case _:
                self._refuse([command], error, DatabaseFault.DAMAGE)
                return
        _answer(command, None)

    async def _set_aside_if_damaged(self, wait_id: str, error: Exception) -> bool:
        """Sets a wait aside if its own row is damaged, not a neighbour that SQLite has to move."""
        try:
            async with self._database.reading() as connection:
                rows = await rows_by_id(connection, [wait_id], self._database.unreadable)
        except StoreUnavailable:
            return False
        if rows and not self._logged_damage:
            self._logged_damage = True
            log.error(
                "page_damaged",
                error=str(error),
                consequence="waits whose rows are beside it cannot end",
                remedy=DAMAGE_REMEDY,
            )
        return not rows

    async def _notify(self, transaction: Transaction) -> None:
        """Tells the listeners what is on disk now, whether or not a caller still waits for it.

        The poker holds what was inserted. The deliverer sends what was finished.
        """
        if transaction.clock_moved:
            self._tell(StoreListener.on_clock_stepped, transaction.clock_moved)
        async for waits in sliced(transaction.inserted, _NOTIFY_SLICE):
            self._tell(StoreListener.on_inserted, waits)
        async for outcomes in sliced(transaction.finished, _NOTIFY_SLICE):
            self._tell(StoreListener.on_finished, outcomes)
        if transaction.redelivered:
            self._tell(StoreListener.on_redelivered, frozenset(transaction.redelivered))
        if transaction.signals:
            self._tell(StoreListener.on_signals, transaction.signals)

    def _tell(self, event: Callable[[Any, Any], None], value: Any) -> None:
        name = event.__name__
        for listener in self.listeners:
            try:
                getattr(listener, name)(value)
            except Exception:  # the change is on disk; one listener fails neither callers nor others
                log.exception("store_listener_failed", listener=type(listener).__name__)


def _in_order(group: Sequence[Command[Any]]) -> list[Command[Any]]:
    order = [kind for kind, _ in _ORDER]
    return sorted(group, key=lambda command: order.index(type(command)))


def _answer(command: Command[Any], answer: Any) -> None:
    if command.future.done():  # the caller was cancelled
        return
    if isinstance(answer, Exception):
        command.future.set_exception(answer)
    else:
        command.future.set_result(answer)
