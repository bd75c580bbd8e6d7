"""How much callers may store: the reserve, its hysteresis, and what is on its way to the disk."""

import pytest

from waitd.core.disk_room import OVERHEAD, WRITES, DiskRoom, DiskSpace
from waitd.core.errors import DiskNearlyFull

MIB = 2**20


def measured(free: float, reusable: float = 0, size: int = 10_000, log: int = 0) -> DiskSpace:
    """A disk of 10 GB; sizes in MiB."""
    return DiskSpace(size * MIB, int(free * MIB), int(reusable * MIB), log * MIB)


def accepts(room: DiskRoom, size: int = 0) -> bool:
    try:
        room.take(size, 1 if size else 0)
    except DiskNearlyFull:
        return False
    return True


@pytest.mark.parametrize(
    ("space", "low", "full"),
    [
        (measured(512), False, False),
        (measured(511), True, False),
        (measured(256), True, False),
        (measured(255), True, True),
        (measured(100, 156), True, False),
        (measured(4, 5_000), False, False),
        (measured(3, 5_000), True, True),  # the log cannot grow
        (measured(3, 5_000, log=1), False, False),
        (measured(0, 257, log=64), True, False),
        (measured(20, 0, size=100), False, False),  # a small disk
        (measured(19, 0, size=100), True, False),
        (measured(9, 0, size=100), True, True),
        (DiskSpace(0, 0, 0), False, False),  # the file system says nothing
    ],
)
def test_a_disk_is_low_before_it_is_full(space: DiskSpace, low: bool, full: bool) -> None:
    room = DiskRoom(256 * MIB, 512 * MIB)
    assert accepts(room), "nothing is known yet"
    room.measure(space)
    assert (room.low, room.full, accepts(room)) == (low, full, not full)
    assert ("MiB left" in room.warning) is low
    assert ("are refused" in room.warning) is full


def test_a_full_disk_accepts_again_when_there_is_a_bit_more_than_the_reserve() -> None:
    room = DiskRoom(256 * MIB)
    for free, accepted in ((256, True), (255, False), (287, False), (288, True), (257, True)):
        room.measure(measured(free))
        assert accepts(room) is accepted


def test_what_was_taken_since_the_last_two_measurements_counts() -> None:
    room = DiskRoom(256 * MIB)
    size = 2 * MIB - OVERHEAD
    room.measure(measured(256 + 2 * WRITES * 2))
    assert [accepts(room, size) for _ in range(3)] == [True, True, False]
    room.measure(measured(256 + 2 * WRITES * 2))
    assert not accepts(room, size), "it may be on its way to the disk"
    room.measure(measured(256 + WRITES * 2))
    assert [accepts(room, size) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("unknown", [None, DiskSpace(0, 0, 0)])
def test_what_was_taken_is_given_back_though_the_disk_cannot_be_measured(unknown: DiskSpace | None) -> None:
    room = DiskRoom(256 * MIB)
    size = 2 * MIB - OVERHEAD
    room.measure(unknown)
    room.measure(measured(256 + 2 * WRITES * 2))
    for _ in range(10):
        assert [accepts(room, size) for _ in range(3)] == [True, True, False]
        room.measure(unknown)
        assert not accepts(room, size), "it may be on its way to the disk"
        room.measure(unknown)
    room.measure(measured(255))
    room.measure(unknown)
    assert room.full


def test_without_a_reserve_nothing_is_refused() -> None:
    room = DiskRoom(0, 512 * MIB)
    room.measure(measured(0))
    assert (room.low, room.full, accepts(room)) == (True, False, True)
