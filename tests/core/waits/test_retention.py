"""Records are kept for the retention, whatever the wall clock does, and within its bytes."""

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.retention import RetentionHorizon, excess_bytes

DAY = 86_400.0


def test_without_a_step_the_horizon_is_the_retention_ago() -> None:
    assert RetentionHorizon(7 * DAY).before(100 * DAY, 5.0) == 93 * DAY


def test_after_a_step_forward_everything_is_kept_for_the_retention_again() -> None:
    horizon = RetentionHorizon(7 * DAY)
    horizon.on_clock_step(365 * DAY, 10.0)
    assert horizon.before(465 * DAY, 10.0) == 93 * DAY
    assert horizon.before(471 * DAY, 10.0 + 6 * DAY) == 99 * DAY
    assert horizon.before(472 * DAY, 10.0 + 7 * DAY) == 465 * DAY


def test_a_step_back_deletes_nothing_early_and_ends_a_step_forward() -> None:
    horizon = RetentionHorizon(7 * DAY)
    horizon.on_clock_step(-2 * DAY, 10.0)
    assert horizon.before(98 * DAY, 10.0) == 91 * DAY
    horizon.on_clock_step(3 * DAY, 20.0)
    horizon.on_clock_step(-3 * DAY, 30.0)
    assert horizon.before(98 * DAY, 30.0) == 91 * DAY


def test_who_keeps_most_loses_first_and_nobody_below_an_equal_share_loses_anything() -> None:
    assert excess_bytes({"a": 60, "b": 40}, 100) == {}
    assert excess_bytes({"storm": 500, "team": 20, "other": 10}, 100) == {"storm": 430}
    assert excess_bytes({"storm": 500, "flood": 90, "team": 20}, 100) == {"storm": 460, "flood": 50}


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), max_size=8), st.integers(1, 10**12))
def test_what_is_left_fits_and_is_shared_fairly(kept: dict[str, int], most: int) -> None:
    lost = excess_bytes(kept, most)
    left = {name: size - lost.get(name, 0) for name, size in kept.items()}
    total = sum(kept.values())
    assert sum(left.values()) <= most + len(kept)
    assert sum(left.values()) >= min(total, most) - len(kept) or not lost
    if lost:
        assert min(left[name] for name in lost) >= max(left.values()) - 1
