"""Whole runs on a real daemon: what is right is reported as right, and what was broken on purpose as wrong."""

from pathlib import Path

import pytest

from waitd.bench.fleet import FleetSettings
from waitd.bench.profiles import Load
from waitd.bench.run import DaemonAddress, run

pytestmark = pytest.mark.slow


class Silent:
    """Shows nothing, and remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(text)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        assert done <= total or total == 0
        self.said.append(text)


async def test_a_fleet_that_lies_about_the_end_is_reported_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    report = await run(
        Silent(), Load(100, 0.5, 4), FleetSettings(program="lying_job_server"), DaemonAddress()
    )
    account = report.account
    assert not account.good
    assert (account.submitted, account.delivered, account.lost, account.wrong) == (100, 100, 0, 10)
    assert all("ended as success, must be failed" in complaint for complaint in account.complaints)
