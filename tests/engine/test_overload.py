"""When more is due than can be poked: who is poked first, and how much later everybody gets."""

import asyncio
from statistics import mean

from fakes import after
from test_poker import running
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending

#: How long the target takes for an answer, in seconds; it takes one request at a time.
ANSWER = 1.0


@in_virtual_time
async def test_lateness_rises_evenly_by_everybodys_own_interval() -> None:
    often = {f"often{n}": 2.0 for n in range(20)}
    seldom = {f"seldom{n}": 40.0 for n in range(5)}
    async with running(lambda *_: after(ANSWER, Pending()), per_host_concurrency=1) as bench:
        for name, poke_interval in (often | seldom).items():
            bench.add(name, interval=poke_interval, timeout=100_000)
        await asyncio.sleep(4000)
        stretched = {
            name: mean(bench.gaps(name)[1:]) / poke_interval
            for name, poke_interval in (often | seldom).items()
        }
    # 10.125 pokes a second are due and one is possible: everybody waits about ten of their own
    # intervals.
    assert all(7 < stretch < 14 for stretch in stretched.values()), stretched


@in_virtual_time
async def test_what_has_one_interval_is_poked_in_turn() -> None:
    names = [f"w{n}" for n in range(10)]
    async with running(lambda *_: after(ANSWER, Pending()), per_host_concurrency=1) as bench:
        for name in names:
            bench.add(name, interval=2.0, timeout=100_000)
        await asyncio.sleep(1000)
        looks = [len(bench.probe.looks[name]) for name in names]
    assert max(looks) - min(looks) <= 1
