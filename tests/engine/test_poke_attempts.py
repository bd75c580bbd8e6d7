"""Pokes that are begun without a task: they are given up, and a defect that they meet is seen."""

import asyncio
from typing import Any

import anyio
import pytest
from fakes import MemoryStore, Script, TasklessProbe, after, hang, waiting
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.waits.verdict import Pending, Verdict
from waitd.core.waits.wait import WaitId
from waitd.engine.poker import Poker
from waitd.metrics import Instruments


class Scene:
    """A poker over a probe that begins its pokes."""

    def __init__(self, script: Script) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore()
        self.probe = TasklessProbe(script, self.clock.now)
        self.poker = Poker(
            self.store,
            {"scripted": self.probe},
            self.clock,
            Instruments(version="test"),
            capacity=10,
            poke_concurrency=10,
            per_host_concurrency=10,
        )

    def add(self, name: str, **params: Any) -> None:
        self.poker.adopt(self.store.put(waiting(name, self.clock.now(), **params)))


@in_virtual_time
async def test_one_that_has_had_its_time_is_given_up_and_its_place_is_free() -> None:
    scene = Scene(lambda *_: hang())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.poker.run)
        scene.add("w", request_timeout=5.0)
        await asyncio.sleep(4.9)
        assert scene.probe.cancelled == 0
        await asyncio.sleep(0.2)
        assert scene.probe.cancelled == 1
        live = scene.poker.live("w")
        assert live is not None
        assert live.waiting_on is not None
        assert (live.waiting_on.stage, live.waiting_on.origin_running) == ("scheduled", 0)
        assert [run.reason for run in live.progress.runs] == ["timeout"]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_the_rest_of_one_that_needs_a_task_is_cancelled_and_not_given_up() -> None:
    """What it had begun with may be another's by then."""
    scene = Scene(lambda *_: after(100, Pending()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.poker.run)
        scene.add("w", request_timeout=5.0)
        await asyncio.sleep(5.1)
        live = scene.poker.live("w")
        assert live is not None
        assert [run.reason for run in live.progress.runs] == ["timeout"]
        assert scene.probe.cancelled == 0
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_cancellation_that_nobody_here_asked_for_is_a_defect_of_the_probe() -> None:
    """Of a library's own future, say. The flight is over, and the wait goes on."""

    async def cancelled() -> Verdict:
        raise asyncio.CancelledError

    scene = Scene(lambda _, look: cancelled() if look == 1 else Pending())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.poker.run)
        scene.add("w", interval=10)
        await asyncio.sleep(25)
        live = scene.poker.live("w")
        assert live is not None
        assert [run.reason for run in live.progress.runs] == ["internal_error", "pending"]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_what_has_a_task_as_the_poker_ends_is_cancelled_and_waited_for() -> None:
    ended: list[str] = []

    async def slow() -> Verdict:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)  # it gives something back
            ended.append("w")
        return Pending()

    scene = Scene(lambda *_: slow())
    running = asyncio.create_task(scene.poker.run())
    await asyncio.sleep(0)
    scene.add("w")
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert ended == ["w"]


@in_virtual_time
async def test_what_is_under_way_as_the_poker_ends_is_given_up() -> None:
    scene = Scene(lambda *_: hang())
    running = asyncio.create_task(scene.poker.run())
    await asyncio.sleep(0)
    scene.add("w")
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert scene.probe.cancelled == 1


@in_virtual_time
async def test_a_defect_met_as_a_poke_lands_ends_the_poker_loudly() -> None:
    """In a callback of the loop nobody would see it, and the wait would never be poked again."""

    def defect() -> float:
        raise ZeroDivisionError

    scene = Scene(lambda *_: Pending())
    scene.poker._jitter = defect
    running = asyncio.create_task(scene.poker.run())
    await asyncio.sleep(0)
    scene.add("w")
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert scene.poker.holds(WaitId("w"))
