"""A clock steps under a running daemon: every schedule of its engine goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from clock_machine import Machine
from daemon import Receiver, serving

from waitd.app import Daemon, open_daemon
from waitd.core.waits.wait import WaitSpec, WaitState
from waitd.ports import Inserted, NewWait, StoredWait
from waitd.settings import Settings

#: The pause before the retry, and the timeout of the other wait, in seconds.
RETRY, TIMEOUT = 3.0, 8.0


@asynccontextmanager
async def engine(state_dir: Path) -> AsyncIterator[Daemon]:
    settings = Settings(state_dir=state_dir, bind="127.0.0.1:0", delivery_retry_delays=(0.0, RETRY, 1.0))
    async with open_daemon(settings) as daemon, anyio.create_task_group() as tasks:
        await daemon.engine.signals.load()
        daemon.engine.start(tasks)
        yield daemon
        tasks.cancel_scope.cancel()


async def submit(daemon: Daemon, url: str, ends_in: float) -> StoredWait:
    spec = WaitSpec(
        kind="signal",
        params={"key": "k"},
        poke_interval=60.0,
        timeout=ends_in,
        sinks=({"kind": "webhook", "url": url},),
    )
    [inserted] = await daemon.engine.store.insert([NewWait("default", spec)])
    assert isinstance(inserted, Inserted)
    return inserted.wait


class Scene:
    """A delivery that was refused once and has a retry queued, and a wait that is not due yet."""

    def __init__(self, machine: Machine, receiver: Receiver, url: str) -> None:
        self.machine = machine
        self.receiver = receiver
        self.url = url
        self.refused = self.other = ""

    async def begin(self, daemon: Daemon) -> None:
        store = daemon.engine.store
        self.receiver.statuses = [503]
        self.refused = (await submit(daemon, self.url, 1.0)).id
        await self.machine.passes(2.0)

        async def is_queued() -> bool:
            return [each.attempts for each in (await store.get(self.refused)).deliveries] == [1]

        await self.machine.reached(is_queued)
        self.other = (await submit(daemon, self.url, TIMEOUT)).id

    def received(self) -> tuple[int, int]:
        """How many requests there were about each of the waits."""
        return len(self.receiver.digests[self.refused]), len(self.receiver.digests[self.other])

    async def receives(self, retried: int, other: int) -> None:
        async def has_received() -> bool:
            return self.received() == (retried, other)

        await self.machine.reached(has_received)


@asynccontextmanager
async def scene(machine: Machine) -> AsyncIterator[Scene]:
    receiver = Receiver()
    async with serving("POST", "/hook", receiver.handle) as url:
        yield Scene(machine, receiver, f"{url}/hook")


@pytest.mark.parametrize("step", [7200.0, -7200.0, 30 * 86_400.0, -30 * 86_400.0])
async def test_a_step_of_the_wall_clock_moves_no_retry_and_no_deadline(
    tmp_path: Path, machine: Machine, step: float
) -> None:
    async with scene(machine) as run, engine(tmp_path) as daemon:
        await run.begin(daemon)
        machine.step("wall", step)

        async def has_followed() -> bool:
            return abs(daemon.engine.clock.now() - machine.time()) < 0.01

        await machine.passes(0.5)
        await machine.reached(has_followed)
        await machine.passes(1.0)  # the retry comes after 0.85 of its delay at the earliest
        assert run.received() == (1, 0)
        await machine.passes(3.0)
        await run.receives(2, 0)
        assert (await daemon.engine.store.get(run.other)).state is WaitState.WAITING
        await machine.passes(TIMEOUT - 4.0)
        await run.receives(2, 1)
        assert (await daemon.engine.store.get(run.other)).state is WaitState.TIMEOUT


async def test_a_step_of_the_monotonic_clock_is_time_that_has_passed(
    tmp_path: Path, machine: Machine
) -> None:
    async with scene(machine) as run, engine(tmp_path) as daemon:
        await run.begin(daemon)
        machine.step("monotonic", 7200.0)
        await machine.passes(2.0)
        await run.receives(2, 1)
        assert (await daemon.engine.store.get(run.other)).state is WaitState.TIMEOUT
        after = await submit(daemon, run.url, TIMEOUT)
        await machine.passes(TIMEOUT - 2.0)
        assert (await daemon.engine.store.get(after.id)).state is WaitState.WAITING
        await machine.passes(3.0)

        async def has_ended() -> bool:
            return (await daemon.engine.store.get(after.id)).state is WaitState.TIMEOUT

        await machine.reached(has_ended)


@pytest.mark.parametrize("back", [7200.0, 30 * 86_400.0])
async def test_a_clock_that_was_set_back_while_the_daemon_was_down_delays_nothing(
    tmp_path: Path, machine: Machine, back: float
) -> None:
    async with scene(machine) as run:
        async with engine(tmp_path) as daemon:
            await run.begin(daemon)
        machine.step("wall", -back)
        async with engine(tmp_path):
            await machine.rest()
            await machine.passes(TIMEOUT + 2.0)
            await run.receives(2, 1)


async def test_a_moment_comes_by_the_clock_that_the_schedules_follow(
    tmp_path: Path, machine: Machine
) -> None:
    async with engine(tmp_path) as daemon:
        at = datetime.fromtimestamp(machine.time() + 2.0, UTC).isoformat()
        spec = WaitSpec(kind="time", params={"at": at}, poke_interval=300.0, timeout=600.0)
        [inserted] = await daemon.engine.store.insert([NewWait("default", spec)])
        assert isinstance(inserted, Inserted)
        await machine.passes(1.75)
        machine.step("wall", -3.0)
        await machine.passes(5.0)

        async def has_ended() -> bool:
            return (await daemon.engine.store.get(inserted.wait.id)).state is WaitState.SUCCESS

        await machine.reached(has_ended)
        assert (await daemon.engine.store.get(inserted.wait.id)).progress.pokes <= 4
