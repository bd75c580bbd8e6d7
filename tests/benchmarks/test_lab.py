"""The lab that the benchmarks are built on, with a real daemon and target."""

import pytest
from lab import measure_window, running_daemon, running_target, waits_on

from waitd.bench.job_table import RECORDED

pytestmark = pytest.mark.slow


async def test_a_lab_submits_pokes_and_measures() -> None:
    async with running_target() as target, running_daemon() as daemon:
        singles = await daemon.submit_singly(waits_on(target, 20, 60.0), connections=4)
        batches = await daemon.submit(waits_on(target, 20, 60.0))
        await daemon.submit(waits_on(target, 3, 0.1, name=RECORDED))
        window = await measure_window(daemon, target, 0.5)
        arrivals = (await target.get("/arrivals"))["arrivals"]
        [rss] = await daemon.rss_at(target, [2])
        assert rss == pytest.approx(daemon.usage.rss, rel=0.5)
    assert (len(singles.seconds), len(batches.seconds)) == (20, 1)
    for cost in (singles, batches):
        assert min(cost.seconds) > 0
        assert cost.daemon.wall > 0
    assert window.pokes >= 3
    assert window.cpu_per_poke > 0
    assert {path.rpartition("/")[2] for path in arrivals} == {f"{RECORDED}-{n}" for n in range(3)}


async def test_a_wait_that_the_daemon_refuses_is_an_error() -> None:
    async with running_target() as target, running_daemon(capacity=5) as daemon:
        with pytest.raises(RuntimeError, match="refused a wait"):
            await daemon.submit_singly(waits_on(target, 20, 60.0), connections=1)
        with pytest.raises(RuntimeError, match="refused a wait"):
            await daemon.submit(waits_on(target, 20, 60.0))
