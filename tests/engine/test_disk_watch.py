"""The watch over the disk: metrics, and a line in the log for each change."""

from structlog.testing import capture_logs
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.disk_room import DiskRoom, DiskSpace
from waitd.core.errors import StoreUnavailable
from waitd.engine.disk_watch import DiskWatch
from waitd.metrics import Instruments

SIZE = 2**30


@in_virtual_time
async def test_each_change_is_logged_once_and_shown_in_metrics() -> None:
    instruments = Instruments(version="test")
    free = [DiskSpace(SIZE, SIZE // part, 7, 9) for part in (2, 6, 6, 20, 20, 6, 2, 2)]

    async def measure() -> DiskSpace | None:
        return free.pop(0)

    watch = DiskWatch(measure, DiskRoom(SIZE, SIZE), VirtualClock(), instruments)
    get = instruments.registry.get_sample_value
    full = []
    with capture_logs() as logs:
        while free:
            await watch.measure()
            full.append((get("waitd_disk_low"), get("waitd_disk_full")))
    ample, low, nearly_full = (0, 0), (1, 0), (1, 1)
    assert full == [ample, low, low, nearly_full, nearly_full, low, ample, ample]
    assert [line["event"] for line in logs] == ["disk_low", "disk_nearly_full", "disk_has_room_again"]
    parts = ("size", "free", "reusable", "log")
    assert [get("waitd_disk_bytes", {"part": part}) for part in parts] == [SIZE, SIZE // 2, 7, 9]


@in_virtual_time
async def test_a_disk_that_cannot_be_measured_is_reported_once_and_fills_up_with_nothing() -> None:
    measured: list[DiskSpace | None] = [None, DiskSpace(SIZE, SIZE // 2, 0), None, None]

    async def measure() -> DiskSpace | None:
        if not measured:
            raise StoreUnavailable("the database cannot be read now")
        return measured.pop(0)

    room = DiskRoom(SIZE // 10)
    watch = DiskWatch(measure, room, VirtualClock(), Instruments(version="test"))
    with capture_logs() as logs:
        for _ in range(20):
            await watch.measure()
            room.take(SIZE // 20)
    assert [line["event"] for line in logs] == ["disk_not_measured"]
