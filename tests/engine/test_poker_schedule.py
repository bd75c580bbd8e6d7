"""When the poker pokes: the grid, backoff, news by hand, jumps of the clock and restarts."""

import asyncio
from typing import Any

import pytest
from engine_harness import RunPoker, running_poker
from fakes import ScriptedProbe, TasklessProbe, after, done_at, hang, waiting
from msgspec.structs import replace
from virtual_time import VirtualTimeLoop, in_virtual_time

from waitd.core.waits.verdict import Pending, Unreachable
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitState, record_verdict


@in_virtual_time
async def test_the_first_poke_is_immediate_and_the_others_are_on_a_grid(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        start = harness.clock.now()
        harness.add("w", interval=10)
        await asyncio.sleep(100)
        times = harness.probe.poked_at["w"]
        assert times[0] - start < 0.03
        assert 5 <= times[1] - start < 15.03
        assert all(abs(gap - 10) < 0.02 for gap in harness.gaps("w")[1:])


@in_virtual_time
async def test_equal_targets_that_are_due_together_share_a_poke(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        for n in range(50):
            harness.store.put(waiting(f"w{n}", harness.clock.now(), key="same"))
        harness.poker.adopt(
            [
                replace(w, spec=replace(w.spec, params={"name": "same", "key": "same"}))
                for w in harness.store.waits.values()
            ]
        )
        await asyncio.sleep(35)
        assert set(harness.probe.groups) == {50}
        assert harness.sample("waitd_pokes_coalesced_total") == 49 * len(harness.probe.groups)


@in_virtual_time
async def test_a_daemon_with_few_pokes_is_seldom_woken() -> None:
    """The pokes of 1,000 hosts that are due within a slot share its wakings."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    async with running_poker(lambda *_: after(0.005, Pending()), probe=TasklessProbe) as harness:
        for n in range(1000):
            harness.add(f"w{n}", host=f"h{n}", interval=30)

        def pokes() -> int:
            return sum(map(len, harness.probe.poked_at.values()))

        await asyncio.sleep(30)
        sleeps, poked = loop.sleeps, pokes()
        await asyncio.sleep(60)
        assert pokes() - poked == pytest.approx(2000, abs=50)
        assert (loop.sleeps - sleeps) / (pokes() - poked) < 1.6


@in_virtual_time
async def test_pokes_that_are_due_together_start_together(run_poker: RunPoker) -> None:
    started: list[str] = []
    first = asyncio.Event()

    def script(name: str, poke: int) -> Any:
        if poke == 1:  # its answer proves the origin
            return Pending()
        started.append(name)
        first.set()
        return hang()

    async with run_poker(script, per_host_concurrency=64) as harness:
        for n in range(20):
            harness.add(f"w{n}")
        await asyncio.sleep(4)
        for n in range(20):
            harness.poker.poke_now(f"w{n}")
        await first.wait()
        await asyncio.sleep(0)
        assert len(started) == 20


@in_virtual_time
async def test_an_unreachable_target_never_ends_a_wait_and_is_backed_off_to_five_minutes(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: Unreachable("http_503")) as harness:
        harness.add("w", interval=10, timeout=86400)
        await asyncio.sleep(7200)
        assert harness.state("w") is WaitState.WAITING
        assert harness.gaps("w")[1:6] == pytest.approx([20, 40, 80, 160, 300], abs=0.02)
        assert max(harness.gaps("w")) <= 300.05


@in_virtual_time
async def test_an_answer_brings_a_wait_back_to_its_grid(run_poker: RunPoker) -> None:
    async with run_poker(lambda _, n: Unreachable("http_503") if n < 6 else Pending()) as harness:
        harness.add("w", interval=10)
        await asyncio.sleep(600)
        assert harness.gaps("w")[-5:] == pytest.approx([10] * 5, abs=0.02)


@in_virtual_time
async def test_retry_after_is_honoured(run_poker: RunPoker) -> None:
    async with run_poker(
        lambda _, n: Unreachable("http_429", retry_after=120) if n == 1 else Pending()
    ) as harness:
        harness.add("w", interval=10)
        await asyncio.sleep(300)
        assert 120 <= harness.gaps("w")[0] < 131


@in_virtual_time
async def test_poke_now_pokes_at_once(run_poker: RunPoker) -> None:
    async with run_poker(done_at(2)) as harness:
        harness.add("w", interval=3600, timeout=90000)
        await asyncio.sleep(1)
        assert harness.poker.poke_now("w")
        await asyncio.sleep(0.1)
        assert harness.state("w") is WaitState.SUCCESS
        assert not harness.poker.poke_now("w")


@in_virtual_time
async def test_poke_now_adds_no_second_poke_while_one_is_in_progress(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: after(5, Pending())) as harness:
        harness.add("w", interval=1000)
        await asyncio.sleep(1)
        assert harness.poker.poke_now("w") is True
        await asyncio.sleep(60)
        assert harness.pokes("w") == 1
        assert harness.poker.poke_now("w") is True
        await asyncio.sleep(10)
        assert harness.pokes("w") == 2


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86_400.0 * 30, -86_400.0 * 30])
@pytest.mark.parametrize("follows", [True, False])
@in_virtual_time
async def test_a_step_of_the_wall_clock_stops_no_poke_and_ends_no_wait_early_or_late(
    run_poker: RunPoker, jump: float, *, follows: bool
) -> None:
    """Whether the step has been followed yet or not."""
    async with run_poker(lambda *_: Pending()) as harness:
        harness.add("w", interval=10, timeout=1800)
        harness.add("distant", interval=3000, timeout=3600)
        await asyncio.sleep(35)
        pokes = harness.pokes("w")
        if follows:
            harness.jump(jump)
        else:
            harness.clock.jump(jump)
        await asyncio.sleep(40)
        assert 3 <= harness.pokes("w") - pokes <= 5
        await asyncio.sleep(1800 - 75 - 1)
        assert harness.state("w") is WaitState.WAITING
        await asyncio.sleep(2)
        assert harness.state("w") is WaitState.TIMEOUT
        await asyncio.sleep(1800 - 2)
        assert harness.state("distant") is WaitState.WAITING
        await asyncio.sleep(2)
        assert harness.state("distant") is WaitState.TIMEOUT


@in_virtual_time
async def test_a_wall_clock_that_was_set_back_over_a_restart_delays_no_poke_and_no_deadline(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        ahead = harness.clock.now() + 86_400
        progress = record_verdict(EMPTY_PROGRESS, Pending(), ahead)
        stored = replace(waiting("w", ahead, interval=60, timeout=600), progress=progress)
        harness.poker.adopt(harness.store.put(stored))
        await asyncio.sleep(61)
        assert harness.pokes("w") >= 1
        await asyncio.sleep(540)
        assert harness.state("w") is WaitState.TIMEOUT


@in_virtual_time
async def test_waits_that_are_overdue_after_a_restart_are_poked_soon_and_spread(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        now = harness.clock.now()
        for n in range(200):
            wait = waiting(f"w{n}", now - 7200, interval=3600, timeout=86400)
            progress = record_verdict(wait.progress, Pending(), now - 7000)
            harness.poker.adopt(harness.store.put(replace(wait, progress=progress)))
        await asyncio.sleep(10.5)
        first_pokes = sorted(times[0] - now for times in harness.probe.poked_at.values())
        assert len(first_pokes) == 200
        assert first_pokes[100] > 2
        assert first_pokes[0] < 1


@in_virtual_time
async def test_a_wait_that_is_not_polled_is_poked_at_its_start_and_at_its_deadline() -> None:
    class UnpolledProbe(ScriptedProbe):
        polled = False

    async with running_poker(lambda *_: Pending(), probe=UnpolledProbe) as harness:
        harness.add("w", interval=1, timeout=600)
        await asyncio.sleep(700)
        assert harness.state("w") is WaitState.TIMEOUT
        assert harness.pokes("w") <= 3
