"""Deadlines: each wait is poked at its own, whatever its target, its origin and the limits do."""

import asyncio

from engine_harness import RunPoker
from fakes import after, hang, waiting
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending, Success
from waitd.core.waits.wait import WaitState


@in_virtual_time
async def test_a_wait_times_out_by_the_verdict_of_a_poke_at_its_deadline(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending("http_404", "not there")) as harness:
        deadline = harness.clock.now() + 25
        harness.add("w", interval=10, timeout=25)
        await asyncio.sleep(24.9)
        assert harness.state("w") is WaitState.WAITING
        await asyncio.sleep(0.2)
        assert harness.state("w") is WaitState.TIMEOUT
        assert deadline <= harness.probe.poked_at["w"][-1] < deadline + 0.05


@in_virtual_time
async def test_a_success_at_the_deadline_wins(run_poker: RunPoker) -> None:
    loop = asyncio.get_running_loop()
    done_at = loop.time() + 25
    async with run_poker(lambda *_: Success() if loop.time() >= done_at else Pending()) as harness:
        harness.add("w", interval=1000, timeout=25)
        await asyncio.sleep(30)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_wait_on_a_hanging_target_is_poked_at_its_deadline_and_times_out_a_second_later(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: hang()) as harness:
        deadline = harness.clock.now() + 95
        harness.add("w", interval=10, timeout=95)
        await asyncio.sleep(95.9)
        assert harness.state("w") is WaitState.WAITING
        await asyncio.sleep(0.2)
        assert harness.state("w") is WaitState.TIMEOUT
        assert harness.probe.poked_at["w"][-1] >= deadline


@in_virtual_time
async def test_the_answer_of_a_poke_in_progress_at_the_deadline_counts(run_poker: RunPoker) -> None:
    async with run_poker(lambda _, n: after(5.5, Success()) if n == 1 else hang()) as harness:
        harness.add("w", interval=10, timeout=5)
        await asyncio.sleep(5.8)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_every_wait_at_a_full_hanging_origin_is_poked_once_at_its_deadline(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: hang(), poke_concurrency=8) as harness:
        names = [f"w{n}" for n in range(100)]
        for name in names:
            harness.add(name, interval=1, timeout=20)
        await asyncio.sleep(40)
        assert {harness.state(name) for name in names} == {WaitState.TIMEOUT}
        deadline = harness.wait("w0").deadline
        assert all(sum(time >= deadline for time in harness.probe.poked_at[name]) == 1 for name in names)


@in_virtual_time
async def test_a_wait_with_a_distant_deadline_at_a_stuck_origin_is_poked_at_its_deadline(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: hang(), per_host_concurrency=1) as harness:
        harness.add("stuck", request_timeout=1000.0, timeout=3600)
        await asyncio.sleep(1)
        for n in range(3):
            harness.add(f"w{n}", interval=1000, timeout=95)
        await asyncio.sleep(97)
        assert {harness.state(f"w{n}") for n in range(3)} == {WaitState.TIMEOUT}


@in_virtual_time
async def test_a_wait_loaded_after_its_deadline_is_poked_exactly_once(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        harness.poker.adopt(harness.store.put(waiting("late", harness.clock.now() - 7200, timeout=3600)))
        await asyncio.sleep(60)
        assert harness.state("late") is WaitState.TIMEOUT
        assert harness.pokes("late") == 1


@in_virtual_time
async def test_a_wait_whose_deadline_comes_while_it_is_queued_is_poked_at_its_deadline(
    run_poker: RunPoker,
) -> None:
    async with run_poker(
        lambda name, _: hang() if name == "slow" else Pending(), per_host_concurrency=1
    ) as harness:
        harness.add("slow", interval=10, timeout=3600, request_timeout=300.0)
        await asyncio.sleep(1)
        deadline = harness.clock.now() + 30
        harness.add("queued", interval=10, timeout=30)
        await asyncio.sleep(35)
        assert harness.state("queued") is WaitState.TIMEOUT
        assert deadline <= harness.probe.poked_at["queued"][-1] < deadline + 0.1
