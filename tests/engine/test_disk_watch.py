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
    free = [DiskSpace(SIZE, SIZE // part, 7) for part in (2, 6, 6, 20, 20, 6, 2, 2)]

    async def measure() -> DiskSpace | None:
        if not free:
            raise StoreUnavailable("the database cannot be read now")
        return free.pop(0)

    watch = DiskWatch(measure, DiskRoom(SIZE, SIZE), VirtualClock(), instruments)
    get = instruments.registry.get_sample_value
    full = []
    with capture_logs() as logs:
        while free:
            await watch.measure()
            full.append((get("waitd_disk_low"), get("waitd_disk_full")))
        await watch.measure()
    ample, low, nearly_full = (0, 0), (1, 0), (1, 1)
    assert full == [ample, low, low, nearly_full, nearly_full, low, ample, ample]
    assert [line["event"] for line in logs] == ["disk_low", "disk_nearly_full", "disk_has_room_again"]
    assert {part: get("waitd_disk_bytes", {"part": part}) for part in ("size", "free", "reusable")} == {
        "size": SIZE,
        "free": SIZE // 2,
        "reusable": 7,
    }
