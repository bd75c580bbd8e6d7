"""The wall clock steps under a running daemon: every schedule goes on."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from daemon import Receiver, serving, until

from waitd.app import Daemon, open_daemon
from waitd.core.waits.wait import WaitSpec, WaitState
from waitd.ports import Inserted, NewWait, StoredWait
from waitd.settings import Settings


class SteppedTime(SimpleNamespace):
    """The module `time` for the daemon's clock; `stepped` is how far the wall clock is off."""

    stepped = 0.0
    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        return time.time() + self.stepped


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SteppedTime:
    stepped = SteppedTime()
    monkeypatch.setattr("waitd.engine.clock.time", stepped)
    return stepped


@asynccontextmanager
async def engine(state_dir: Path) -> AsyncIterator[Daemon]:
    settings = Settings(state_dir=state_dir, bind="127.0.0.1:0", delivery_retry_delays=(0.0, 3.0, 1.0))
    async with open_daemon(settings) as daemon, anyio.create_task_group() as tasks:
        await daemon.engine.signals.load()
        daemon.engine.start(tasks)
        yield daemon
        tasks.cancel_scope.cancel()


async def submit(daemon: Daemon, url: str, *, ends_in: float = 3600.0) -> StoredWait:
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


@pytest.mark.parametrize("step", [7200.0, -7200.0])
async def test_a_queued_retry_comes_at_its_time_and_a_wait_ends_at_its_deadline(
    tmp_path: Path, machine: SteppedTime, step: float
) -> None:
    receiver = Receiver()
    receiver.statuses = [503]
    async with serving("POST", "/hook", receiver.handle) as url, engine(tmp_path) as daemon:
        refused = await submit(daemon, f"{url}/hook", ends_in=1.0)
        await until(lambda: bool(receiver.digests[refused.id]))
        other = await submit(daemon, f"{url}/hook", ends_in=8.0)
        tried, machine.stepped = time.monotonic(), step
        await until(lambda: abs(daemon.engine.clock.now() - machine.time()) < 1.0)
        await until(lambda: len(receiver.digests[refused.id]) == 2)
        assert 2.0 < time.monotonic() - tried < 6.0
        assert (await daemon.engine.store.get(other.id)).state is WaitState.WAITING
        await until(lambda: bool(receiver.digests[other.id]))
        assert 6.5 < time.monotonic() - tried < 12.0
        assert (await daemon.engine.store.get(other.id)).state is WaitState.TIMEOUT


@pytest.mark.parametrize("back", [7200.0, 30 * 86_400.0])
async def test_a_clock_that_was_set_back_while_the_daemon_was_down_delays_nothing(
    tmp_path: Path, machine: SteppedTime, back: float
) -> None:
    receiver = Receiver()
    receiver.statuses = [503]
    async with serving("POST", "/hook", receiver.handle) as url:
        async with engine(tmp_path) as daemon:
            refused = await submit(daemon, f"{url}/hook", ends_in=1.0)
            await until(lambda: bool(receiver.digests[refused.id]))
            other = await submit(daemon, f"{url}/hook", ends_in=2.0)
        machine.stepped = -back
        started = time.monotonic()
        async with engine(tmp_path):
            await until(lambda: len(receiver.digests[refused.id]) == 2 and bool(receiver.digests[other.id]))
        assert time.monotonic() - started < 8.0
