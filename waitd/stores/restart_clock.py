"""Tells how far the wall clock was set while no daemon used the database.

The kernel counts the time since the boot, that of a suspended machine included. Until the next boot
it tells how much time has really passed; after one, only the wall clock can.
"""

import sqlite3
import time
from hashlib import sha256
from pathlib import Path

from waitd.stores.schema import BOOT, CLOCK_OFFSET

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: A difference up to this is a correction of the clock that no schedule follows, in seconds.
_MAX_DRIFT = 1.0
_SAVE = "INSERT INTO watermarks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def clock_moved(connection: sqlite3.Connection) -> float:
    """How far the wall clock has stepped since the schedules last moved with it, in seconds.

    0 after a boot. What is stored for the next start is measured again when the schedules move.
    """
    now = read_clocks()
    if now is None:
        return 0.0
    before = dict(
        connection.execute("SELECT name, value FROM watermarks WHERE name IN (?, ?)", (BOOT, CLOCK_OFFSET))
    )
    boot, offset = now
    moved = (
        (offset - before[CLOCK_OFFSET]) / 1000 if before.get(BOOT) == boot and CLOCK_OFFSET in before else 0.0
    )
    if abs(moved) > _MAX_DRIFT:
        return moved
    connection.executemany(_SAVE, [(BOOT, boot), (CLOCK_OFFSET, offset)])
    return 0.0


def read_clocks() -> tuple[int, int] | None:
    """A number for this boot, and when it was, in Unix milliseconds; None: not on this machine."""
    try:
        boot = sha256(_BOOT_ID.read_bytes()).digest()
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return None
    return int.from_bytes(boot[:6]), round(booted_at * 1000)
