"""Pokes that the daemon's own trouble prevents, in virtual time."""

import asyncio
import errno

from engine_harness import RunPoker
from fakes import after
from virtual_time import in_virtual_time

from waitd.core.local_trouble import NAME_SERVERS_SILENT
from waitd.core.waits.schedule import LOCAL_GRACE, MAX_LOCAL_PAUSE
from waitd.core.waits.verdict import Pending, Success, Verdict
from waitd.core.waits.wait import WaitState


async def without_descriptors() -> Verdict:
    raise OSError(errno.EMFILE, "too many open files")


@in_virtual_time
async def test_own_trouble_is_no_poke_no_backoff_and_no_fault_of_the_origin(run_poker: RunPoker) -> None:
    short = True
    async with run_poker(lambda *_: without_descriptors() if short else Pending()) as harness:
        for n in range(20):
            harness.add(f"w{n}", interval=10, timeout=86_400)
        harness.add("rare", interval=3600, timeout=86_400)
        await asyncio.sleep(120)
        progress = harness.live("w0").progress
        assert [(run.verdict, run.reason) for run in progress.runs] == [("unreachable", "local_error")]
        assert (progress.pokes, progress.step) == (0, 0)
        assert max(harness.gaps("w0")) <= 10.1
        assert max(harness.gaps("rare")) <= MAX_LOCAL_PAUSE + 0.1
        assert harness.sample("waitd_local_errors_total", met_by="pokes") > 200
        short = False
        await asyncio.sleep(31)
        assert harness.live("rare").progress.pokes == 1
        assert harness.live("w0").progress.runs[-1].reason == "pending"
        harness.poker.refresh_gauges()
        assert harness.sample("waitd_origins_limited") == 0


@in_virtual_time
async def test_a_final_poke_that_own_trouble_prevents_is_repeated(run_poker: RunPoker) -> None:
    short = True
    async with run_poker(lambda *_: without_descriptors() if short else Success()) as harness:
        harness.add("w", interval=10, timeout=60)
        await asyncio.sleep(120)
        assert harness.state("w") is WaitState.WAITING
        short = False
        await asyncio.sleep(31)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_final_poke_that_own_trouble_prevents_for_long_is_the_last(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: without_descriptors()) as harness:
        harness.add("w", interval=10, timeout=60)
        await asyncio.sleep(60 + LOCAL_GRACE + 15)
        assert harness.state("w") is WaitState.TIMEOUT


@in_virtual_time
async def test_a_final_poke_beside_a_slow_one_is_repeated_too(run_poker: RunPoker) -> None:
    def script(_: str, poke: int) -> object:
        return after(9.0, Pending()) if poke == 1 else without_descriptors() if poke == 2 else Success()

    async with run_poker(script) as harness:
        harness.add("w", interval=10, timeout=5, request_timeout=20.0)
        await asyncio.sleep(40)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_name_servers_that_answer_for_no_origin_are_own_trouble(run_poker: RunPoker) -> None:
    dead = True
    async with run_poker(
        lambda name, _: NAME_SERVERS_SILENT if dead or name == "bad" else Pending()
    ) as harness:
        for name in ("bad", "b", "c", "d"):
            harness.add(name, host=name, interval=10, timeout=86_400)
        await asyncio.sleep(60)
        assert harness.live("d").progress.runs[-1].reason == "local_error"
        dead = False
        await asyncio.sleep(60)
        assert harness.live("d").progress.runs[-1].reason == "pending"
        assert harness.live("bad").progress.runs[-1].reason == "dns", "that is its own"
