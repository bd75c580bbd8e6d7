"""What comes back after a fault is asked no faster than before: no surge, in virtual time."""

import asyncio
from collections import Counter

import pytest
from deliverer_harness import running_deliverer
from engine_harness import RunPoker
from fakes import after, hang
from submit_harness import SubmitHarness
from virtual_time import in_virtual_time

from waitd.core.waits.delivery import Delivered, DeliveryFailed, Receipt
from waitd.core.waits.job_cancel import CancelUnavailable, JobCancelled
from waitd.core.waits.submission import Submission, SubmitState
from waitd.core.waits.verdict import Pending, Unreachable

WAITS, INTERVAL = 450, 30.0


def curve(times: list[float], begin: float, seconds: int = 60) -> list[int]:
    """How many of `times` are in each second from `begin` on."""
    counts = Counter(int(time - begin) for time in times if time >= begin)
    return [counts[second] for second in range(seconds)]


@pytest.mark.parametrize("fault", ["hangs", "refuses", "refuses until a date", "hangs from the start"])
@in_virtual_time
async def test_waits_on_an_origin_that_comes_back_are_released_at_the_rate_from_before(
    run_poker: RunPoker, fault: str
) -> None:
    broken = fault == "hangs from the start"
    back = 0.0

    def script(_: str, __: int) -> object:
        if not broken:
            return after(0.005, Pending())
        if fault == "refuses":
            return Unreachable("connection_refused")
        if fault == "refuses until a date":
            return Unreachable("http_503", "", max(0.0, back - harness.clock.now()))
        return hang()

    async with run_poker(script, poke_concurrency=500, per_host_concurrency=64, capacity=WAITS) as harness:
        for n in range(WAITS):
            harness.add(f"w{n}", interval=INTERVAL, timeout=86_400.0, request_timeout=10.0)
        if not broken:
            await asyncio.sleep(120)
        broken, back = True, harness.clock.now() + 60
        await asyncio.sleep(60)
        broken = False
        await asyncio.sleep(380)
        times = [time for times in harness.probe.poked_at.values() for time in times]
        first = min(time for time in times if time >= back)
        released = curve(times, first, 90)
        usual = WAITS / INTERVAL
        print(fault, released)  # noqa: T201 - the curve, for people
        assert sum(released[:1]) <= usual / 4, "not all in the first second"
        assert max(released[:28]) <= usual * 1.3, "no more than before"
        assert max(released) <= usual * 1.3 * 1.6
        settled = curve(times, first + 250, 120)
        assert sum(settled) == pytest.approx(usual * 120, rel=0.07), "and then all as before"
        assert max(harness.gaps("w0")[-5:]) < INTERVAL * 1.1


@in_virtual_time
async def test_an_origin_with_an_error_now_and_then_is_never_paced(run_poker: RunPoker) -> None:
    async with run_poker(
        lambda name, _: Unreachable("http_500") if name in {"w1", "w50"} else Pending(), capacity=WAITS
    ) as harness:
        for n in range(200):
            harness.add(f"w{n}", interval=5)
        await asyncio.sleep(200)
        assert all(max(harness.gaps(f"w{n}")[1:]) < 5.1 for n in range(200) if n not in {1, 50})


@pytest.mark.parametrize("fault", ["hangs", "refuses"])
@in_virtual_time
async def test_a_destination_that_comes_back_gets_its_backlog_in_a_ramp(fault: str) -> None:
    broken, times = True, []

    async def answer(_: object) -> Receipt:
        if broken:
            await asyncio.sleep(1000 if fault == "hangs" else 0.001)
            return DeliveryFailed("refused")
        times.append(harness.clock.now())
        return await after(0.001, Delivered())

    async with running_deliverer(answer) as harness:
        for n in range(1000):
            harness.queue(f"d{n}")
        await asyncio.sleep(60)
        broken, back = False, harness.clock.now()
        await asyncio.sleep(3600)
        assert len(harness.outbox.settled) == 1000
        released = curve(times, min(times), 120)
        print(fault, min(times) - back, released)  # noqa: T201
        assert released[0] <= 8
        assert max(released[:30]) <= 13


@in_virtual_time
async def test_job_cancels_at_an_origin_that_comes_back_are_released_in_a_ramp() -> None:
    times: list[float] = []

    def answer(_: int) -> CancelUnavailable | JobCancelled:
        now = harness.clock.now()
        if now < back:
            return CancelUnavailable("refused", 60.0)
        times.append(now)
        return JobCancelled()

    harness = SubmitHarness(cancels=answer)
    back = harness.clock.now() + 60
    for n in range(1000):
        harness.put_ended(f"w{n:04}", Submission(SubmitState.SUBMITTED, 5, 1))
    async with harness.running():
        await asyncio.sleep(900)
    assert len(times) == 1000
    released = curve(times, min(times), 100)
    print(released)  # noqa: T201
    assert released[0] <= 9
    assert max(released[:30]) <= 20
