"""Tells how far the wall clock was set while no daemon used the database.

The kernel counts the time since the boot, that of a suspended machine included. Until the next boot
it tells how much time has really passed; after one, only the wall clock can.
"""

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import literal_column, select

from waitd.stores.bulk import OnConflict, insert_into
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import BOOT, CLOCK_OFFSET, watermarks
from waitd.stores.statements import Statement

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: A difference up to this is a correction of the clock that no schedule follows, in seconds.
_MAX_DRIFT = 1.0
_STORED = Statement(
    select(watermarks).where(
        watermarks.c.name.in_([literal_column(f"'{name}'") for name in (BOOT, CLOCK_OFFSET)])
    )
)
_SAVE = insert_into(watermarks, on_conflict=OnConflict.REPLACE)


async def clock_moved(connection: StoreConnection) -> float:
    """How far the wall clock has stepped since the schedules last moved with it, in seconds.

    0 after a boot. What is stored for the next start is measured again when the schedules move.
    """
    now = read_clocks()
    if now is None:
        return 0.0
    before: dict[str, Any] = dict(await _STORED.fetch_all(connection))
    boot, offset = now
    moved = (
        (offset - before[CLOCK_OFFSET]) / 1000 if before.get(BOOT) == boot and CLOCK_OFFSET in before else 0.0
    )
    if abs(moved) > _MAX_DRIFT:
        return moved
    connection.defer_rows(_SAVE, [(BOOT, boot), (CLOCK_OFFSET, offset)])
    return 0.0


def read_clocks() -> tuple[int, int] | None:
    """A number for this boot, and when it was, in Unix milliseconds; None: not on this machine."""
    try:
        boot = sha256(_BOOT_ID.read_bytes()).digest()
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return None
    return int.from_bytes(boot[:6]), round(booted_at * 1000)
