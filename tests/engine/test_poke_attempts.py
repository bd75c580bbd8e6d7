"""How pokes end early: timeouts, cancellations, defects, and the end of the poker."""

import asyncio
import gc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from engine_harness import PokerHarness, RunPoker, running_poker
from fakes import TasklessProbe, after, defect, hang
from virtual_time import in_virtual_time

from waitd.core.connections.proxies import note_proxy
from waitd.core.waits.verdict import Pending, Verdict
from waitd.engine.poke_attempts import STARTS_PER_TURN, PokeAttempt


@in_virtual_time
async def test_a_poke_that_times_out_is_cancelled_and_frees_its_place() -> None:
    async with running_poker(lambda *_: hang(), probe=TasklessProbe) as harness:
        assert isinstance(harness.probe, TasklessProbe)
        harness.add("w", request_timeout=5.0)
        await asyncio.sleep(4.9)
        assert harness.probe.cancelled == 0
        await asyncio.sleep(0.2)
        assert harness.probe.cancelled == 1
        live = harness.live("w")
        assert live.waiting_on is not None
        assert (live.waiting_on.stage, live.waiting_on.origin_running) == ("scheduled", 0)
        assert [run.reason for run in live.progress.runs] == ["timeout"]


@in_virtual_time
async def test_a_poke_that_goes_on_in_a_task_times_out_by_the_tasks_cancellation() -> None:
    async with running_poker(lambda *_: after(100, Pending()), probe=TasklessProbe) as harness:
        assert isinstance(harness.probe, TasklessProbe)
        harness.add("w", request_timeout=5.0)
        await asyncio.sleep(5.1)
        assert [run.reason for run in harness.live("w").progress.runs] == ["timeout"]
        assert harness.probe.cancelled == 0


@in_virtual_time
async def test_a_poke_that_times_out_behind_a_proxy_names_it(run_poker: RunPoker) -> None:
    async def behind_proxy() -> Verdict:
        try:
            return await hang()
        except asyncio.CancelledError as error:
            note_proxy(error, "http://user:password@proxy:3128")
            raise

    async with run_poker(lambda *_: behind_proxy()) as harness:
        harness.add("w", request_timeout=5.0)
        await asyncio.sleep(5.1)
        [run] = harness.live("w").progress.runs
    assert run.message == "No complete answer in time. The request goes through http://proxy:3128."


@in_virtual_time
async def test_many_pokes_that_time_out_together_leave_others_their_turn() -> None:
    limits = {"poke_concurrency": 1000}  # twice the pokes: their origins are not proven
    async with running_poker(lambda *_: hang(), probe=TasklessProbe, **limits) as harness:
        probe = harness.probe
        assert isinstance(probe, TasklessProbe)
        for n in range(500):
            harness.add(f"w{n}", host=f"h{n}", request_timeout=5.0)
        await asyncio.sleep(4.9)
        loop, cancelled = asyncio.get_running_loop(), [0]
        for _ in range(1000):  # time passes although this task is always ready
            loop._jumping.now += 0.001  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            cancelled.append(probe.cancelled)
        assert cancelled[-1] == 500
        assert max(now - then for then, now in pairwise(cancelled)) <= STARTS_PER_TURN


@in_virtual_time
async def test_a_suspended_machine_costs_no_poke_its_time() -> None:
    """The monotonic clock jumps ahead, and the answer is there to be read."""
    async with running_poker(lambda *_: after(2.0, Pending()), probe=TasklessProbe) as harness:
        harness.add("w", request_timeout=5.0, timeout=86_400.0)
        await asyncio.sleep(1.0)
        loop = asyncio.get_running_loop()
        loop._jumping.now += 8 * 3600.0  # type: ignore[attr-defined]
        await asyncio.sleep(1.5)
        assert [run.reason for run in harness.live("w").progress.runs] == ["pending"]


@in_virtual_time
async def test_a_poke_that_hangs_over_a_suspend_still_times_out() -> None:
    async with running_poker(lambda *_: hang(), probe=TasklessProbe) as harness:
        harness.add("w", request_timeout=5.0, timeout=86_400.0)
        await asyncio.sleep(1.0)
        loop = asyncio.get_running_loop()
        loop._jumping.now += 8 * 3600.0  # type: ignore[attr-defined]
        await asyncio.sleep(3.5)
        assert not harness.live("w").progress.runs
        await asyncio.sleep(1.0)
        assert [run.reason for run in harness.live("w").progress.runs] == ["timeout"]


@in_virtual_time
async def test_a_cancellation_that_the_poker_did_not_request_is_a_defect_of_the_probe(
    run_poker: RunPoker,
) -> None:
    """A library's future may be cancelled, say. The poke ends, and the wait goes on."""

    async def cancelled() -> Verdict:
        raise asyncio.CancelledError

    async with run_poker(lambda _, n: cancelled() if n == 1 else Pending()) as harness:
        harness.add("w", interval=10)
        await asyncio.sleep(25)
        assert [run.reason for run in harness.live("w").progress.runs] == ["internal_error", "pending"]


@in_virtual_time
async def test_the_end_of_the_poker_cancels_pokes_in_tasks_and_waits_for_them(run_poker: RunPoker) -> None:
    ended: list[str] = []

    async def slow() -> Verdict:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)  # it releases a resource
            ended.append("w")
        return Pending()

    async with run_poker(lambda *_: slow()) as harness:
        harness.add("w")
        await asyncio.sleep(1)
    assert ended == ["w"]


@in_virtual_time
async def test_the_end_of_the_poker_cancels_pokes_without_a_task() -> None:
    async with running_poker(lambda *_: hang(), probe=TasklessProbe) as harness:
        assert isinstance(harness.probe, TasklessProbe)
        harness.add("w")
        await asyncio.sleep(1)
    assert harness.probe.cancelled == 1


@in_virtual_time
async def test_a_defect_while_a_verdict_is_applied_ends_the_poker() -> None:
    """In a callback of the loop it would be lost, and the wait would never be poked again."""
    harness = PokerHarness(lambda *_: Pending(), probe=TasklessProbe, jitter=defect)
    running = asyncio.create_task(harness.poker.run())
    await asyncio.sleep(0)
    harness.add("w")
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(RuntimeError, match="a defect", depth=1)
    assert harness.poker.holds("w")


@in_virtual_time
async def test_drain_lets_pokes_in_progress_finish_and_starts_no_more(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: after(3, Pending())) as harness:
        harness.add("w", interval=1)
        await asyncio.sleep(1)
        await harness.poker.drain(10)
        pokes = harness.pokes("w")
        assert harness.live("w").progress.pokes == pokes
        await asyncio.sleep(30)
        assert harness.pokes("w") == pokes


@in_virtual_time
async def test_drain_ends_after_its_grace(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: hang()) as harness:
        harness.add("w")
        await asyncio.sleep(1)
        before = harness.clock.monotonic()
        await harness.poker.drain(4)
        assert 4 <= harness.clock.monotonic() - before < 4.2


@in_virtual_time
async def test_a_poke_leaves_no_reference_cycle() -> None:
    """The garbage collector would hold the loop to find them, one for each poke."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        scripts: dict[str, Callable[[], Any]] = {
            "answers": Pending,
            "takes time": lambda: after(1.0, Pending()),
            "hangs": hang,
        }
        async with running_poker(lambda name, _: scripts[name](), probe=TasklessProbe) as harness:
            for name in scripts:
                harness.add(name, request_timeout=5.0)
            await asyncio.sleep(6.0)
            gc.collect()
        assert not any(isinstance(each, PokeAttempt) for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
