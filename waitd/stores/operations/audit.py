"""Writes audit entries, each in the transaction of the change that it describes."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Float, Integer, bindparam, func, select
from sqlalchemy import delete as delete_from

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.audit import AuditEntry, Caller, build_audit_entry
from waitd.ports import Inserted
from waitd.stores import bulk
from waitd.stores.operations.commands import (
    Cancel,
    Command,
    Insert,
    PruneAudit,
    Redeliver,
    RedeliverEach,
    SaveApiKeys,
    SaveAuditEntry,
    SaveSignal,
)
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import audit
from waitd.stores.statements import Statement

_INSERT = bulk.insert_into(audit, AuditEntry._fields)
#: Reads no more entries than may be deleted, so that a check that finds none old is cheap.
_OLDEST = (
    select(audit.c.number, audit.c.at)
    .order_by(audit.c.number)
    .limit(bindparam("limit", type_=Integer))
    .subquery()
)
#: The numbers of the first and the last entry: only the first ones are deleted.
FIRST_AND_LAST = Statement(
    select(
        select(func.min(audit.c.number)).scalar_subquery(), select(func.max(audit.c.number)).scalar_subquery()
    )
)
_BEFORE = bindparam("before", type_=Float)
OLD = Statement(select(_OLDEST.c.number).where(_OLDEST.c.at < _BEFORE))
_DELETE = Statement(
    delete_from(audit).where(audit.c.number <= bindparam("last", type_=Integer), audit.c.at < _BEFORE)
)
_DELETE_FIRST = Statement(delete_from(audit).where(audit.c.number <= bindparam("last", type_=Integer)))


def record(transaction: Transaction, group: Sequence[Command[Any]]) -> None:
    """Inserts the entries of all commands in `group`; called when their answers are set."""
    entries: list[AuditEntry] = []
    for command in group:
        if isinstance(command, SaveAuditEntry | SaveApiKeys):
            entries += [command.entry] if command.entry is not None else []
        elif command.by is not None:
            entries += _entries(command, command.by, transaction.now)
    transaction.connection.defer_rows(_INSERT, entries)


def _entries(command: Command[Any], by: Caller, now: float) -> Iterator[AuditEntry]:
    match command:
        case Insert():
            new = [one for one in command.answer if isinstance(one, Inserted) and one.created]
            if new:
                yield build_audit_entry(
                    by, now, "submit", new[0].wait.id if len(new) == 1 else None, subjects=len(new)
                )
        case Cancel(wait_id=wait_id):
            yield build_audit_entry(by, now, "cancel", wait_id, result=_result(command.answer))
        case SaveSignal(signal=signal):
            yield build_audit_entry(by, now, "signal", signal.key, result=_result(command.answer))
        case Redeliver(wait_id=wait_id):
            yield build_audit_entry(by, now, "redeliver", wait_id, result=_result(command.answer))
        case RedeliverEach():
            count = command.answer if isinstance(command.answer, int) else len(command.ids)
            yield build_audit_entry(
                by, now, "redeliver", None, subjects=count, result=_result(command.answer)
            )


def _result(answer: object) -> str:
    match answer:
        case NotFound():
            return "not_found"
        case Conflict():
            return "conflict"
        case _:
            return "done"


async def prune(transaction: Transaction, commands: Sequence[PruneAudit]) -> None:
    """Deletes the oldest entries."""
    connection = transaction.connection
    for command in commands:
        old = await OLD.fetch_all(connection, before=command.before, limit=command.limit)
        command.answer = len(old)
        if old:
            _DELETE.defer(connection, last=max(old)[0], before=command.before)
            continue
        [[first, last]] = await FIRST_AND_LAST.fetch_all(connection)
        excess = 0 if first is None else min(last - first + 1 - command.keep, command.limit)
        if excess > 0:
            command.answer = excess
            _DELETE_FIRST.defer(connection, last=first + excess - 1)
