"""The release after a fault: a ramp to the rate from before, which then holds and grows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.recovery import FAULT_FAILURES, REMEMBERED, Pace, Paces, release_rate


def failed(pace: Pace) -> Pace:
    for _ in range(FAULT_FAILURES):
        pace.on_failure(999.0)
    return pace


def measured(rate: float) -> Pace:
    """A target that was asked at `rate` for 30 seconds until 1000.0."""
    pace = Pace()
    for n in range(int(30 * rate) + 1):
        pace.on_start(970.0 + n / rate)
    return pace


def released(pace: Pace, seconds: float, *, begin: float = 1000.0, step: float = 0.01) -> list[int]:
    """The starts in each second when all that may start does."""
    curve = [0] * int(seconds)
    for n in range(int(seconds / step)):
        now = begin + n * step
        while pace.next_start(now) <= now and curve[int(n * step)] < 100_000:
            pace.on_start(now)
            curve[int(n * step)] += 1
            if not pace.limited:
                return curve
    return curve


def test_the_release_is_a_ramp_then_the_rate_from_before_and_then_grows_by_a_quarter() -> None:
    pace = failed(measured(400))
    pace.on_answer(1000.0)
    pace.on_backlog(12_000, 100.0)
    curve = released(pace, 95)
    assert curve[:3] == pytest.approx([50, 100, 200], abs=4)
    assert curve[3:32] == pytest.approx([400] * 29, abs=45)
    assert curve[34:62] == pytest.approx([500] * 28, abs=56)
    assert curve[64:92] == pytest.approx([625] * 28, abs=70)


def test_a_target_that_was_never_measured_is_released_at_the_rate_of_its_backlog() -> None:
    pace = failed(Pace())
    pace.on_answer(1000.0)
    pace.on_backlog(3000, 100.0)
    assert max(released(pace, 30)) <= 112


@pytest.mark.parametrize("failures", [0, FAULT_FAILURES - 1])
def test_single_failures_limit_nothing(failures: int) -> None:
    pace = Pace()
    for _ in range(failures):
        pace.on_failure(999.0)
    pace.on_answer(1000.0)
    assert not pace.limited
    assert pace.next_start(1000.0) == 1000.0


def test_while_a_target_fails_the_rate_from_before_is_the_limit() -> None:
    pace = failed(measured(50))
    assert sum(released(pace, 10)) == pytest.approx(500, rel=0.05)
    assert pace.rate == pytest.approx(50, rel=0.05)
    pace.on_answer(1060.0)
    assert released(pace, 1, begin=1060.0)[0] <= 50 / 8 + 2


def test_the_release_ends_when_nothing_is_due_any_more() -> None:
    pace = failed(Pace())
    pace.on_answer(1000.0)
    pace.on_drained(1001.0)
    assert pace.limited, "what is due may come in a moment"
    pace.on_drained(1004.0)
    assert not pace.limited


@given(st.floats(0.01, 1e5), st.floats(1, 600))
def test_the_rate_never_falls_and_does_not_exceed_that_from_before_while_it_holds(
    rate: float, hold: float
) -> None:
    rates = [release_rate(rate, hold, since / 4) for since in range(4000)]
    assert all(later >= earlier for earlier, later in pairwise(rates))
    assert all(now <= rate for n, now in enumerate(rates) if n / 4 < 3 + hold)


def test_paces_are_remembered_in_bounded_memory() -> None:
    paces = Paces(10.0)
    first = paces.get("first")
    for n in range(REMEMBERED - 1):
        paces.get(n)
        assert paces.get("first") is first
    for n in range(10):
        paces.get(("more", n))
    assert len(paces) == REMEMBERED
