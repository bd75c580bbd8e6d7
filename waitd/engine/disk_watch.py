"""Watches how full the disk of the database is."""

from collections.abc import Awaitable, Callable

import structlog

from waitd.core.disk_room import DiskRoom, DiskSpace
from waitd.core.errors import StoreUnavailable
from waitd.engine.clock import Clock
from waitd.metrics import Instruments

log = structlog.get_logger(__name__)

#: How often the disk is measured, in seconds. It takes a call of statvfs(2) and two pragmas.
MEASURE_SECONDS = 1.0


class DiskWatch:
    """Measures the disk, and reports when it is low, when it is full, and when it has room again.

    Attributes:
        room: what callers may still store.
    """

    def __init__(
        self,
        measure: Callable[[], Awaitable[DiskSpace | None]],
        room: DiskRoom,
        clock: Clock,
        instruments: Instruments,
    ) -> None:
        self.room = room
        self._measure = measure
        self._clock = clock
        self._instruments = instruments
        self._is_measured = False

    async def run(self) -> None:
        """Measures until it is cancelled."""
        while True:
            await self.measure()
            await self._clock.sleep(MEASURE_SECONDS)

    async def measure(self) -> None:
        """Measures once."""
        why = "the file system does not tell its size"
        try:
            space = await self._measure()
        except StoreUnavailable as error:
            space, why = None, str(error)
        if space is None:
            self._on_unmeasured(why)
            return
        self._is_measured = True
        for part, size in space._asdict().items():
            self._instruments.disk_bytes.labels(part).set(size)
        room = self.room
        before = room.full, room.low
        room.measure(space)
        self._instruments.disk_low.set(room.low)
        self._instruments.disk_full.set(room.full)
        if room.full and not before[0]:
            log.error("disk_nearly_full", why=room.warning, remedy="make room on the disk, or enlarge it")
        elif room.low and not before[1]:
            log.warning("disk_low", why=room.warning)
        elif before[1] and not room.low:
            log.info("disk_has_room_again")

    def _on_unmeasured(self, why: str) -> None:
        """What was accepted meanwhile must not add up to a full disk."""
        self.room.measure(None)
        if self._is_measured:
            self._is_measured = False
            log.warning("disk_not_measured", why=why, consequence="it is thought to be as full as before")
