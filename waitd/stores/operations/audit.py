"""The audit as rows: each is written in the transaction of the change that it tells of."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Float, Integer, bindparam, select
from sqlalchemy import delete as delete_from

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.audit import AuditEntry, build_audit_entry
from waitd.ports import AuditFilter, Inserted, StoredAuditEntry
from waitd.stores.operations.requests import (
    Cancel,
    Insert,
    Operation,
    PruneAudit,
    Redeliver,
    RedeliverEach,
    SaveAuditEntry,
    SaveKeys,
    SaveSignal,
)
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import audit
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement
from waitd.stores.text import well_formed

_INSERT = bulk.insert_into("audit", AuditEntry._fields)
#: Operations that bring their line with them.
_OWN = (SaveAuditEntry, SaveKeys)
#: The oldest lines. Those that are looked at are as many as may be deleted, so that a look which finds nothing costs nothing.
_OLDEST = (
    select(audit.c.number, audit.c.at)
    .order_by(audit.c.number)
    .limit(bindparam("limit", type_=Integer))
    .subquery()
)
_BEFORE = bindparam("before", type_=Float)
OLD = Statement(select(_OLDEST.c.number).where(_OLDEST.c.at < _BEFORE))
_DELETE = Statement(
    delete_from(audit).where(audit.c.number <= bindparam("last", type_=Integer), audit.c.at < _BEFORE)
)


def record(transaction: Transaction, group: Sequence[Operation]) -> None:
    """Writes the lines of everything in `group` that somebody is named for; to be called when its answers are known."""
    told = [operation for operation in group if operation.by is not None or isinstance(operation, _OWN)]
    rows = [row for operation in told for row in _changes(operation, transaction.now)]
    bulk.write(transaction.link, _INSERT, rows)


def _changes(operation: Operation, now: float) -> Iterator[AuditEntry]:
    match operation:
        case SaveAuditEntry(change=told) | SaveKeys(change=AuditEntry() as told):
            yield told
        case Insert(by=by) if by is not None:
            new = [added for added in operation.answer if isinstance(added, Inserted) and added.created]
            if new:
                yield build_audit_entry(
                    by, now, "submit", new[0].wait.id if len(new) == 1 else None, subjects=len(new)
                )
        case Cancel(by=by, wait_id=wait_id) if by is not None:
            yield build_audit_entry(by, now, "cancel", wait_id, result=_result(operation.answer))
        case SaveSignal(by=by, signal=signal) if by is not None:
            yield build_audit_entry(by, now, "signal", signal.key, result=_result(operation.answer))
        case Redeliver(by=by, wait_id=wait_id) if by is not None:
            yield build_audit_entry(by, now, "redeliver", wait_id, result=_result(operation.answer))
        case RedeliverEach(by=by) if by is not None:
            count = operation.answer if isinstance(operation.answer, int) else len(operation.ids)
            yield build_audit_entry(
                by, now, "redeliver", None, subjects=count, result=_result(operation.answer)
            )


def _result(answer: object) -> str:
    match answer:
        case NotFound():
            return "not_found"
        case Conflict():
            return "conflict"
        case _:
            return "done"


async def prune(transaction: Transaction, operations: Sequence[PruneAudit]) -> None:
    """Deletes the oldest lines."""
    for operation in operations:
        old = await OLD.run(transaction.link, before=operation.before, limit=operation.limit)
        operation.answer = len(old)
        if old:
            _DELETE.write(transaction.link, last=max(old)[0], before=operation.before)


async def find(link: ConnectionThread, wanted: AuditFilter) -> list[StoredAuditEntry]:
    """Lines that meet the filter, newest first."""
    query = select(audit).order_by(audit.c.number.desc()).limit(wanted.limit)
    if wanted.principal is not None:
        query = query.where(audit.c.principal == well_formed(wanted.principal))
    if wanted.action is not None:
        query = query.where(audit.c.action == well_formed(wanted.action))
    if wanted.subject is not None:
        query = query.where(audit.c.subject == well_formed(wanted.subject))
    if wanted.before is not None:
        query = query.where(audit.c.number < wanted.before)
    return [StoredAuditEntry(number, AuditEntry(*line)) for number, *line in await Statement(query).run(link)]
