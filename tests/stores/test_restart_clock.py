"""How far the wall clock was set between two starts, by the kernel's time since the boot."""

from pathlib import Path

import pytest
from store_values import opened, url_of

from waitd.stores import open_database, restart_clock


class Machine:
    """The number of the boot, and when it was, in milliseconds."""

    def __init__(self) -> None:
        self.clocks: tuple[int, int] | None = (1, 1_000_000)

    def read(self) -> tuple[int, int] | None:
        return self.clocks


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(restart_clock, "read_clocks", machine.read)
    return machine


async def moved(path: Path) -> float:
    """What a start finds."""
    database = await open_database(url_of(path))
    try:
        await database.claim(adopt_copy=False)
        return database.clock_moved
    finally:
        await database.close()


async def shift(path: Path, seconds: float) -> None:
    async with opened(path) as store:
        await store.shift_schedules(seconds)


async def test_a_step_is_told_until_the_schedules_have_moved(database: Path, machine: Machine) -> None:
    assert await moved(database) == 0.0
    machine.clocks = (1, 8_200_000)
    assert await moved(database) == 7200.0
    assert await moved(database) == 7200.0, "that daemon was killed before it moved anything"
    await shift(database, 7200.0)
    assert await moved(database) == 0.0
    machine.clocks = (1, 1_000_000)
    await shift(database, -7200.0)  # under the running daemon
    assert await moved(database) == 0.0


@pytest.mark.usefixtures("machine")
async def test_the_time_of_a_suspended_machine_is_no_step_of_a_restart(database: Path) -> None:
    """The daemon's steady clock stood still, so its schedules moved; that of the boot did not."""
    assert await moved(database) == 0.0
    await shift(database, 28_800.0)
    assert await moved(database) == 0.0


async def test_small_corrections_do_not_add_up_to_a_step(database: Path, machine: Machine) -> None:
    for milliseconds in range(1_000_000, 1_010_000, 900):
        machine.clocks = (1, milliseconds)
        assert await moved(database) == 0.0


async def test_after_a_boot_or_without_such_a_clock_the_wall_clock_counts(
    database: Path, machine: Machine
) -> None:
    await moved(database)
    machine.clocks = (2, 8_200_000)
    assert await moved(database) == 0.0
    machine.clocks = None
    assert await moved(database) == 0.0


def test_this_machine_has_such_a_clock() -> None:
    first, second = restart_clock.read_clocks(), restart_clock.read_clocks()
    assert first is not None
    assert second is not None
    assert first[0] == second[0]
    assert abs(first[1] - second[1]) < 60_000
