"""Batches that run at the same time: a namespace waits for its own batches, not for another's."""

import asyncio
from contextlib import suppress

import pytest
from api_fakes import until

from waitd.api.submission import batch_slots
from waitd.api.submission.batch_slots import BatchSlots


class Batches:
    """Batches that run until they are told to end."""

    def __init__(self) -> None:
        self.slots = BatchSlots()
        self.running: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        """Starts batches; the namespace of `a2` is `a`."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._run(name))
            await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[name]

    async def _run(self, name: str) -> None:
        async with self.slots.slot(name[0]):
            self.running.append(name)
            await self._ends[name].wait()
        self.running.remove(name)


@pytest.fixture
async def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    monkeypatch.setattr(batch_slots, "MAX_RUNNING", 3)
    return Batches()


async def test_a_free_slot_goes_to_the_namespace_that_has_the_fewest(batches: Batches) -> None:
    await batches.start("a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1")
    assert batches.running == ["a1", "a2", "a3"]
    for ended, begun in (("a1", "b1"), ("a2", "c1"), ("c1", "a4"), ("b1", "b2"), ("b2", "a5")):
        await batches.end(ended)
        await asyncio.sleep(0)
        assert (batches.running[-1], len(batches.running)) == (begun, 3)


async def test_a_batch_whose_caller_leaves_takes_no_slot(batches: Batches) -> None:
    await batches.start("a1", "a2", "a3", "b1", "b2", "c1")
    await batches.cancel("b1")
    batches._ends["a1"].set()
    await asyncio.sleep(0)
    assert "a1" not in batches.running
    batches._tasks["b2"].cancel()  # it was given the slot in this moment
    await until(lambda: "c1" in batches.running)
    for name in ("a2", "a3", "c1"):
        await batches.end(name)
    await batches.start("d1", "d2", "d3")
    assert batches.running == ["d1", "d2", "d3"], "no slot is lost"
