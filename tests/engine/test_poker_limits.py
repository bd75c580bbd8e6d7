"""Limits on concurrency: hanging origins, and what happens when more is due than can be poked."""

import asyncio
from statistics import mean

from engine_harness import RunPoker
from fakes import after, hang
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import WaitState


@in_virtual_time
async def test_pokes_in_progress_stay_within_the_limit_and_at_deadlines_within_twice_the_limit(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: hang(), poke_concurrency=4) as harness:
        for n in range(40):
            harness.add(f"w{n}", host=f"h{n}", timeout=20, request_timeout=100.0)
        in_flight = []
        for _ in range(500):
            await asyncio.sleep(0.1)
            harness.poker.gauges.refresh()
            in_flight.append(harness.sample("waitd_pokes_in_flight"))
        assert max(in_flight[:190]) == 2, "half of them at origins that have not answered"
        assert max(in_flight) == 8
        assert {harness.state(f"w{n}") for n in range(40)} == {WaitState.TIMEOUT}


@in_virtual_time
async def test_hanging_origins_do_not_delay_the_pokes_of_a_healthy_one(run_poker: RunPoker) -> None:
    async with run_poker(
        lambda name, _: hang() if name.startswith("bad") else Pending(), poke_concurrency=400
    ) as harness:
        for origin in range(100):
            for n in range(20):
                harness.add(f"bad{origin}-{n}", host=f"bad{origin}", interval=1)
        for n in range(200):
            harness.add(f"good{n}", host="good", interval=1)
        await asyncio.sleep(120)
        gaps = [gap for n in range(200) for gap in harness.gaps(f"good{n}")[1:]]
        assert len(gaps) > 200 * 110
        assert max(gaps) < 1.1
        harness.poker.gauges.refresh()
        assert harness.sample("waitd_origins_limited") == 100


@in_virtual_time
async def test_an_origin_that_answers_again_gets_its_limit_back(run_poker: RunPoker) -> None:
    hanging = True
    async with run_poker(lambda *_: hang() if hanging else after(0.5, Pending())) as harness:
        for n in range(64):
            harness.add(f"w{n}", interval=30)
        await asyncio.sleep(60)
        harness.poker.gauges.refresh()
        assert harness.sample("waitd_origins_limited") == 1
        hanging = False
        await asyncio.sleep(300)
        harness.poker.gauges.refresh()
        assert harness.sample("waitd_origins_limited") == 0
        assert harness.sample("waitd_waits_overdue") == 0


@in_virtual_time
async def test_under_overload_each_wait_is_late_by_the_same_share_of_its_interval(
    run_poker: RunPoker,
) -> None:
    intervals = {f"often{n}": 2.0 for n in range(20)} | {f"seldom{n}": 40.0 for n in range(5)}
    async with run_poker(lambda *_: after(1.0, Pending()), per_host_concurrency=1) as harness:
        for name, interval in intervals.items():
            harness.add(name, interval=interval, timeout=100_000)
        await asyncio.sleep(4000)
        stretched = {name: mean(harness.gaps(name)[1:]) / interval for name, interval in intervals.items()}
    # 10.125 pokes a second are due and one is possible: a wait is poked every ten of its intervals.
    assert all(7 < stretch < 14 for stretch in stretched.values()), stretched


@in_virtual_time
async def test_under_overload_waits_with_equal_intervals_take_turns(run_poker: RunPoker) -> None:
    names = [f"w{n}" for n in range(10)]
    async with run_poker(lambda *_: after(1.0, Pending()), per_host_concurrency=1) as harness:
        for name in names:
            harness.add(name, interval=2.0, timeout=100_000)
        await asyncio.sleep(1000)
        pokes = [harness.pokes(name) for name in names]
    assert max(pokes) - min(pokes) <= 1
