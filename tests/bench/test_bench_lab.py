"""The lab that the benchmarks are built on, with a real daemon and target."""

import pytest

from waitd.bench.job_table import RECORDED
from waitd.bench.lab import measure_window, open_lab

pytestmark = pytest.mark.slow


async def test_a_lab_submits_pokes_and_measures() -> None:
    async with open_lab() as lab, lab.target() as target, lab.daemon("lab") as daemon:
        singles = await lab.submit(daemon, target.endpoint("endless", "single"), count=20, connections=4)
        batches = await lab.submit(
            daemon, target.endpoint("endless", "line"), count=20, batch=7, connections=1
        )
        await daemon.submit(target.waits(RECORDED, 3, 0.1))
        window = await measure_window(daemon, target, 0.5)
        arrivals = (await target.take_arrivals())["arrivals"]
        [rss] = await daemon.rss_at(target, [2])
    for result in (singles, batches):
        assert result["p99"] >= result["p50"] > 0
        assert result["span"].wall > 0
    assert window.pokes >= 3
    assert window.cpu_per_poke > 0
    assert {path.rpartition("/")[2] for path in arrivals} == {f"{RECORDED}-{n}" for n in range(3)}
    assert rss == pytest.approx(window.rss, rel=0.5)


async def test_a_wait_that_the_daemon_refuses_is_an_error() -> None:
    async with open_lab() as lab, lab.target() as target, lab.daemon("lab", capacity=5) as daemon:
        with pytest.raises(RuntimeError, match="did not accept every wait"):
            await lab.submit(daemon, target.endpoint("endless", "single"), count=20, connections=1)
