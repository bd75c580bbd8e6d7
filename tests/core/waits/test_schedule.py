"""When a wait is poked: the grid, the two backoffs, Retry-After."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.schedule import (
    RETRY_AFTER_MAX,
    UNREACHABLE_MAX_WAIT,
    Pacing,
    after_pending,
    after_unreachable,
    doubled,
    granted,
    next_on_grid,
    phase_of,
)

NOW = 1_800_000_000.0
phases = st.floats(0, 1, exclude_max=True)
intervals = st.floats(0.1, 86400)
jitters = st.floats(0, 1, exclude_max=True)


@given(phases, intervals, st.floats(0, 100))
def test_the_next_grid_point_is_after_now_and_half_an_interval_after_the_start(
    phase: float, interval: float, took: float
) -> None:
    started = NOW - took
    due = next_on_grid(phase, interval, started, NOW)
    assert due > NOW
    assert due >= started + interval / 2 - 1e-6
    assert due <= max(NOW, started + interval / 2) + interval + 1e-6


@given(phases, intervals)
def test_pokes_that_start_on_time_are_one_interval_apart(phase: float, interval: float) -> None:
    first = next_on_grid(phase, interval, NOW, NOW)
    second = next_on_grid(phase, interval, first, first + interval * 0.01)
    assert abs(second - first - interval) < 1e-5


def test_missed_pokes_collapse_into_one() -> None:
    due = next_on_grid(0.5, 10, NOW - 1000, NOW)
    assert NOW < due <= NOW + 10


def test_equal_targets_coincide_and_different_ones_spread() -> None:
    assert phase_of("GET http://a/1") == phase_of("GET http://a/1")
    phases_of_many = sorted(phase_of(f"GET http://a/{n}") for n in range(10_000))
    assert all(abs(phase - n / 10_000) < 0.02 for n, phase in enumerate(phases_of_many))


def test_the_phase_is_the_same_in_every_process() -> None:
    assert phase_of("GET http://a/1") == 0.3260466903448105


@given(intervals, st.integers(0, 10_000), st.floats(0.1, 1e6), jitters)
def test_a_doubled_pause_stays_between_the_interval_and_the_limit(
    interval: float, step: int, limit: float, jitter: float
) -> None:
    pause = doubled(interval, step, limit, jitter)
    assert interval <= pause <= max(limit, interval)


def test_exponential_backoff_doubles_up_to_max_wait() -> None:
    pacing = Pacing(10, exponential_backoff=True, max_wait=60)
    pauses = [after_pending(pacing, 0, step, started_at=NOW, now=NOW, jitter=0) - NOW for step in range(1, 7)]
    assert pauses == [10, 20, 40, 60, 60, 60]


def test_without_backoff_a_pending_wait_keeps_to_its_grid() -> None:
    due = after_pending(Pacing(10), 0.25, 1000, started_at=NOW, now=NOW, jitter=0.5)
    assert due == next_on_grid(0.25, 10, NOW, NOW)


def test_a_single_blip_changes_nothing_and_more_are_backed_off() -> None:
    pacing = Pacing(10)
    pauses = [
        after_unreachable(pacing, 0, step, None, started_at=NOW, now=NOW, jitter=0) - NOW
        for step in range(1, 9)
    ]
    assert 5 <= pauses[0] <= 15
    assert pauses[1:] == [20, 40, 80, 160, UNREACHABLE_MAX_WAIT, UNREACHABLE_MAX_WAIT, UNREACHABLE_MAX_WAIT]


def test_an_interval_longer_than_the_backoff_is_kept() -> None:
    due = after_unreachable(Pacing(3600), 0, 9, None, started_at=NOW, now=NOW, jitter=0.9)
    assert due - NOW == 3600


@given(st.floats(0, 1e9), intervals, phases)
def test_retry_after_is_honoured_up_to_its_limit_and_never_shortens_the_interval(
    asked: float, interval: float, phase: float
) -> None:
    due = after_unreachable(Pacing(interval), phase, 1, asked, started_at=NOW, now=NOW, jitter=0)
    assert due >= next_on_grid(phase, interval, NOW, NOW)
    assert due - NOW >= min(asked, RETRY_AFTER_MAX) - 1e-3
    assert due - NOW <= max(RETRY_AFTER_MAX, 1.5 * interval) + 1e-3


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
def test_the_grid_lies_where_the_phase_says(phase: float, started_at: float, now: float, due: float) -> None:
    assert next_on_grid(phase, 10, started_at, now) == due


def test_a_grid_finer_than_a_clock_goes_on() -> None:
    now = 2.0**53
    assert next_on_grid(0.0, 1.5, now, now) == now + 2
    assert next_on_grid(0.9, 1.5, now - 2, now) > now


def test_jitter_stretches_a_pause_by_up_to_a_quarter() -> None:
    assert [doubled(10, 1, 1000, jitter) for jitter in (0, 0.5, 1)] == [20, 22.5, 25]
    assert doubled(10, 1, 21, 0.5) == 21


def test_backoff_without_max_wait_has_no_limit_but_the_deadline() -> None:
    pacing = Pacing(10, exponential_backoff=True)
    assert after_pending(pacing, 0, 11, started_at=NOW, now=NOW, jitter=0) == NOW + 10 * 2**10


def test_a_pause_is_granted_up_to_a_limit_and_the_past_is_none() -> None:
    assert [granted(Pacing(10), asked) for asked in (-5, 0, 0.5, 7, 1e9)] == [0, 0, 0.5, 7, RETRY_AFTER_MAX]
    assert granted(Pacing(2 * RETRY_AFTER_MAX), 1e9) == 2 * RETRY_AFTER_MAX
