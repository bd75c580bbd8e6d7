"""Moves stored times when the wall clock has stepped, so that no schedule waits for the step."""

from collections.abc import Sequence

from sqlalchemy import text

from waitd.core.waits.delivery import MAX_SINK_RETRY_AFTER, RETRY_JITTER
from waitd.stores import restart_clock
from waitd.stores.operations.commands import ClampAttempts, ShiftSchedules
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import CLOCK_OFFSET
from waitd.stores.sqlite.statements import Statement

#: The smallest step for which the deadlines of all waiting waits are rewritten, in seconds: every
#: row costs as much as a poke. After a smaller one, a wait that survives a restart may end early
#: or late by as much.
MIN_DEADLINE_SHIFT = 60.0

_SHIFT_ATTEMPTS = Statement(
    text(
        "UPDATE deliveries SET next_attempt_at = next_attempt_at + :moved,"
        " last_attempt_at = coalesce(last_attempt_at, created_at) + :moved WHERE state = 'queued'"
    )
)
_SET_OFFSET = Statement(text("UPDATE watermarks SET value = :offset WHERE name = :name"))
_SHIFT_DEADLINES = Statement(text("UPDATE waits SET deadline = deadline + :moved WHERE state = 'waiting'"))
#: `since`: when the delivery was last attempted, or queued.
_CLAMP = Statement(
    text(
        "UPDATE deliveries SET last_attempt_at = :now, next_attempt_at = :now +"
        " CASE WHEN next_attempt_at - since BETWEEN 0 AND :longest"
        " THEN next_attempt_at - since ELSE :largest_delay END"
        " FROM (SELECT id AS late, coalesce(last_attempt_at, created_at) AS since FROM deliveries"
        " WHERE state = 'queued') WHERE id = late AND (since > :now OR next_attempt_at > :now + :longest)"
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
            _SET_OFFSET.defer(transaction.connection, offset=clocks[1], name=CLOCK_OFFSET)
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
