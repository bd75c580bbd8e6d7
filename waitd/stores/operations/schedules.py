"""Moves stored times when the wall clock has stepped, so that no schedule waits for the step."""

from collections.abc import Sequence

from sqlalchemy import BindParameter, Float, Text, bindparam, case, func, update

from waitd.core.waits.delivery import MAX_SINK_RETRY_AFTER, RETRY_JITTER
from waitd.stores import restart_clock
from waitd.stores.operations.commands import ClampAttempts, ShiftSchedules
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import CLOCK_OFFSET, IS_QUEUED, IS_WAITING, deliveries, waits, watermarks
from waitd.stores.statements import Statement

#: The smallest step for which the deadlines of all waiting waits are rewritten, in seconds: every
#: row costs as much as a poke. After a smaller one, a wait that survives a restart may end early
#: or late by as much.
MIN_DEADLINE_SHIFT = 60.0


def _seconds(name: str) -> BindParameter[float]:
    return bindparam(name, type_=Float)


#: When a delivery was last attempted, or queued.
_SINCE = func.coalesce(deliveries.c.last_attempt_at, deliveries.c.created_at)
_DELAY = deliveries.c.next_attempt_at - _SINCE
_SHIFT_ATTEMPTS = Statement(
    update(deliveries)
    .values(
        next_attempt_at=deliveries.c.next_attempt_at + _seconds("moved"),
        last_attempt_at=_SINCE + _seconds("moved"),
    )
    .where(IS_QUEUED)
)
_SET_OFFSET = Statement(
    update(watermarks)
    .values(value=bindparam("offset", type_=watermarks.c.value.type))
    .where(watermarks.c.name == bindparam("watermark", type_=Text))
)
_SHIFT_DEADLINES = Statement(
    update(waits).values(deadline=waits.c.deadline + _seconds("moved")).where(IS_WAITING)
)
_CLAMP = Statement(
    update(deliveries)
    .values(
        last_attempt_at=_seconds("now"),
        next_attempt_at=_seconds("now")
        + case((_DELAY.between(0, _seconds("longest")), _DELAY), else_=_seconds("largest_delay")),
    )
    .where(
        IS_QUEUED,
        (_seconds("now") < _SINCE) | (deliveries.c.next_attempt_at > _seconds("now") + _seconds("longest")),
    )
)


def shift(transaction: Transaction, commands: Sequence[ShiftSchedules]) -> None:
    """Moves the retries of deliveries, and the deadlines of waiting waits, with the wall clock."""
    for command in commands:
        _SHIFT_ATTEMPTS.defer(transaction.connection, moved=command.moved)
        if abs(command.moved) >= MIN_DEADLINE_SHIFT:
            _SHIFT_DEADLINES.defer(transaction.connection, moved=command.moved)
        if clocks := restart_clock.read_clocks():
            # Not by as much as the schedules: a machine that was suspended moved only these.
            _SET_OFFSET.defer(transaction.connection, offset=clocks[1], watermark=CLOCK_OFFSET)
        transaction.clock_moved += command.moved


def clamp(transaction: Transaction, commands: Sequence[ClampAttempts]) -> None:
    """Brings retries to their own delay from now if the wall clock was set back in between.

    Such a row was attempted in the future, or is due later than any delay allows.
    """
    if commands:
        delays = transaction.rules.retry_delays
        largest = max(delays) * (1 + RETRY_JITTER)
        _CLAMP.defer(
            transaction.connection,
            now=transaction.now,
            largest_delay=largest,
            longest=max(largest, MAX_SINK_RETRY_AFTER),
        )
