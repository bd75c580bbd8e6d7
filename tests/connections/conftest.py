"""The fixtures of the tests of connections."""

import pytest
from manual_clock import ManualClock

from waitd.metrics import Instruments


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(version="test")
