"""Records are kept for the retention, whatever the wall clock does."""

from waitd.core.waits.retention import RetentionHorizon

DAY = 86_400.0


def test_without_a_step_the_horizon_is_the_retention_ago() -> None:
    assert RetentionHorizon(7 * DAY).before(100 * DAY, 5.0) == 93 * DAY


def test_after_a_step_forward_everything_is_kept_for_the_retention_again() -> None:
    horizon = RetentionHorizon(7 * DAY)
    horizon.reanchor(365 * DAY, 10.0)
    assert horizon.before(465 * DAY, 10.0) == 93 * DAY
    assert horizon.before(471 * DAY, 10.0 + 6 * DAY) == 99 * DAY
    assert horizon.before(472 * DAY, 10.0 + 7 * DAY) == 465 * DAY


def test_a_step_back_deletes_nothing_early_and_ends_a_step_forward() -> None:
    horizon = RetentionHorizon(7 * DAY)
    horizon.reanchor(-2 * DAY, 10.0)
    assert horizon.before(98 * DAY, 10.0) == 91 * DAY
    horizon.reanchor(3 * DAY, 20.0)
    horizon.reanchor(-3 * DAY, 30.0)
    assert horizon.before(98 * DAY, 30.0) == 91 * DAY
