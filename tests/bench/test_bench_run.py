"""A complete run on a real daemon, with a fleet that lies."""

from pathlib import Path

import pytest

from waitd.bench.fleet import FleetSettings
from waitd.bench.profiles import Load
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.run import DaemonAddress, run

pytestmark = pytest.mark.slow


async def test_outcomes_that_a_lying_fleet_caused_are_wrong(
    display: ProgressDisplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    report = await run(display, Load(100, 0.5, 4), FleetSettings(program="lying_job_server"), DaemonAddress())
    correctness = report.correctness
    assert not correctness.good
    assert (correctness.submitted, correctness.delivered, correctness.lost, correctness.wrong) == (
        100,
        100,
        0,
        10,
    )
    assert all("ended as success, must be failed" in complaint for complaint in correctness.complaints)
