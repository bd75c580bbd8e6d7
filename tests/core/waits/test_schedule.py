"""When a wait is poked: the grid, the two backoffs, Retry-After."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.schedule import (
    MAX_RETRY_AFTER,
    MAX_UNREACHABLE_PAUSE,
    Pacing,
    backoff_pause,
    capped_retry_after,
    grid_phase,
    next_grid_point,
    next_poke_after_pending,
    next_poke_after_unreachable,
)

NOW = 1_800_000_000.0
phases = st.floats(0, 1, exclude_max=True)
intervals = st.floats(0.1, 86400)
jitters = st.floats(0, 1, exclude_max=True)


@given(phases, intervals, st.floats(0, 100))
def test_the_next_grid_point_is_after_now_and_half_an_interval_after_the_start(
    phase: float, interval: float, duration: float
) -> None:
    started_at = NOW - duration
    due = next_grid_point(phase, interval, started_at, NOW)
    assert due > NOW
    assert due >= started_at + interval / 2 - 1e-6
    assert due <= max(NOW, started_at + interval / 2) + interval + 1e-6


@given(phases, intervals)
def test_pokes_that_start_on_time_are_one_interval_apart(phase: float, interval: float) -> None:
    first = next_grid_point(phase, interval, NOW, NOW)
    second = next_grid_point(phase, interval, first, first + interval * 0.01)
    assert abs(second - first - interval) < 1e-5


def test_missed_pokes_collapse_into_one() -> None:
    due = next_grid_point(0.5, 10, NOW - 1000, NOW)
    assert NOW < due <= NOW + 10


def test_equal_targets_share_a_phase_and_different_ones_spread() -> None:
    assert grid_phase("GET http://a/1", 60) == grid_phase("GET http://a/1", 60)
    phases_of_many = sorted(grid_phase(f"GET http://a/{n}", 60) for n in range(10_000))
    assert all(abs(phase - n / 10_000) < 0.02 for n, phase in enumerate(phases_of_many))


def test_the_phase_is_the_same_in_every_process() -> None:
    assert grid_phase("GET http://a/1", 86_400) * 86_400 == pytest.approx(28_170.4)


@pytest.mark.parametrize(("interval", "slot"), [(60, 0.025), (10, 0.025), (1, 0.01), (0.1, 0.001)])
def test_what_is_due_within_a_slot_is_due_together(interval: float, slot: float) -> None:
    """Waits with an interval of 60 s wake a daemon up to 40 times a second."""
    slots = {grid_phase(f"GET http://a/{n}", interval) * interval / slot for n in range(2000)}
    assert all(each == pytest.approx(round(each)) for each in slots)
    assert len(set(map(round, slots))) <= interval / slot
    assert max(slots) > 0.9 * interval / slot


@given(intervals, st.integers(0, 10_000), st.floats(0.1, 1e6), jitters)
def test_a_doubled_pause_stays_between_the_interval_and_the_limit(
    interval: float, step: int, limit: float, jitter: float
) -> None:
    pause = backoff_pause(interval, step, limit, jitter)
    assert interval <= pause <= max(limit, interval)


def test_exponential_backoff_doubles_up_to_max_wait() -> None:
    pacing = Pacing(10, exponential_backoff=True, max_wait=60)
    pauses = [
        next_poke_after_pending(pacing, 0, step, started_at=NOW, now=NOW, jitter=0) - NOW
        for step in range(1, 7)
    ]
    assert pauses == [10, 20, 40, 60, 60, 60]


def test_without_backoff_a_pending_wait_stays_on_its_grid() -> None:
    due = next_poke_after_pending(Pacing(10), 0.25, 1000, started_at=NOW, now=NOW, jitter=0.5)
    assert due == next_grid_point(0.25, 10, NOW, NOW)


def test_the_first_unreachable_verdict_stays_on_the_grid_and_later_ones_back_off() -> None:
    pacing = Pacing(10)
    pauses = [
        next_poke_after_unreachable(pacing, 0, step, None, started_at=NOW, now=NOW, jitter=0) - NOW
        for step in range(1, 9)
    ]
    assert 5 <= pauses[0] <= 15
    assert pauses[1:] == [
        20,
        40,
        80,
        160,
        MAX_UNREACHABLE_PAUSE,
        MAX_UNREACHABLE_PAUSE,
        MAX_UNREACHABLE_PAUSE,
    ]


def test_an_interval_longer_than_the_backoff_is_kept() -> None:
    due = next_poke_after_unreachable(Pacing(3600), 0, 9, None, started_at=NOW, now=NOW, jitter=0.9)
    assert due - NOW == 3600


@given(st.floats(0, 1e9), intervals, phases)
def test_retry_after_is_honoured_up_to_its_limit_and_never_shortens_the_interval(
    retry_after: float, interval: float, phase: float
) -> None:
    due = next_poke_after_unreachable(
        Pacing(interval), phase, 1, retry_after, started_at=NOW, now=NOW, jitter=0
    )
    assert due >= next_grid_point(phase, interval, NOW, NOW)
    assert due - NOW >= min(retry_after, MAX_RETRY_AFTER) - 1e-3
    assert due - NOW <= max(MAX_RETRY_AFTER, 1.5 * interval) + 1e-3


@pytest.mark.parametrize(
    ("phase", "started_at", "now", "due"),
    [
        (0.0, NOW, NOW, NOW + 10),
        (0.25, NOW, NOW, NOW + 12.5),
        (0.75, NOW, NOW, NOW + 7.5),
        (0.5, NOW, NOW, NOW + 15),
        (0.25, NOW, NOW + 2.4, NOW + 12.5),
        (0.75, NOW - 60, NOW, NOW + 7.5),
    ],
)
def test_the_phase_shifts_the_grid(phase: float, started_at: float, now: float, due: float) -> None:
    assert next_grid_point(phase, 10, started_at, now) == due


def test_a_grid_finer_than_the_clocks_resolution_still_advances() -> None:
    now = 2.0**53
    assert next_grid_point(0.0, 1.5, now, now) == now + 2
    assert next_grid_point(0.9, 1.5, now - 2, now) > now


def test_jitter_lengthens_a_pause_by_up_to_a_quarter() -> None:
    assert [backoff_pause(10, 1, 1000, jitter) for jitter in (0, 0.5, 1)] == [20, 22.5, 25]
    assert backoff_pause(10, 1, 21, 0.5) == 21


def test_backoff_without_max_wait_is_unlimited() -> None:
    pacing = Pacing(10, exponential_backoff=True)
    assert next_poke_after_pending(pacing, 0, 11, started_at=NOW, now=NOW, jitter=0) == NOW + 10 * 2**10


def test_retry_after_is_capped_and_never_negative() -> None:
    assert [capped_retry_after(Pacing(10), retry_after) for retry_after in (-5, 0, 0.5, 7, 1e9)] == [
        0,
        0,
        0.5,
        7,
        MAX_RETRY_AFTER,
    ]
    assert capped_retry_after(Pacing(2 * MAX_RETRY_AFTER), 1e9) == 2 * MAX_RETRY_AFTER
