"""The retry delays of a delivery."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.delivery import (
    MAX_SINK_RETRY_AFTER,
    RETRY_DELAYS,
    AfterAttempt,
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    Receipt,
    after_attempt,
    first_attempt_at,
)

NOW = 1_800_000_000.0


def test_the_first_attempt_is_at_once() -> None:
    assert first_attempt_at(NOW) == NOW
    assert first_attempt_at(NOW, (3.0,)) == NOW + 3


def test_a_taken_event_is_delivered_and_a_gone_destination_is_dead() -> None:
    assert after_attempt(1, Delivered(), NOW, 0.5).state is DeliveryState.DELIVERED
    gone = after_attempt(1, DeliveryRejected("410"), NOW, 0.5)
    assert (gone.state, gone.last_error, gone.next_attempt_at) == (DeliveryState.DEAD, "410", None)


def test_a_refused_event_climbs_the_ladder_and_dies_at_its_end() -> None:
    pauses = []
    for attempt in range(1, len(RETRY_DELAYS)):
        after = after_attempt(attempt, DeliveryFailed("500"), NOW, 0.5)
        assert after.state is DeliveryState.QUEUED
        assert after.next_attempt_at is not None
        pauses.append(after.next_attempt_at - NOW)
    assert pauses == pytest.approx(RETRY_DELAYS[1:])
    assert after_attempt(len(RETRY_DELAYS), DeliveryFailed("500"), NOW, 0.5).state is DeliveryState.DEAD


@given(st.integers(1, 20), st.floats(0, 1e5))
def test_an_attempt_that_came_too_early_costs_no_rung(attempt: int, pause: float) -> None:
    after = after_attempt(attempt, DeliveryPostponed("not yet", pause), NOW, 0.5)
    assert (after.state, after.attempts) == (DeliveryState.QUEUED, attempt - 1)
    assert (after.next_attempt_at, after.last_error) == (NOW + pause, "not yet")


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.floats(-10, 1e9))
def test_a_pause_is_within_a_fifth_of_its_delay_or_the_requested_retry_after(
    attempt: int, jitter: float, asked: float
) -> None:
    plain = after_attempt(attempt, DeliveryFailed("500"), NOW, jitter)
    polite = after_attempt(attempt, DeliveryFailed("429", asked), NOW, jitter)
    assert plain.next_attempt_at is not None
    assert polite.next_attempt_at is not None
    delay = RETRY_DELAYS[attempt]
    assert delay * 0.8 - 1e-3 <= plain.next_attempt_at - NOW <= delay * 1.2 + 1e-3
    assert polite.next_attempt_at - NOW >= min(asked, MAX_SINK_RETRY_AFTER) - 1e-3


@given(
    st.lists(
        st.sampled_from([DeliveryFailed("no"), Delivered(), DeliveryRejected("no")]),
        min_size=10,
        max_size=12,
    )
)
def test_every_delivery_ends_delivered_or_dead(receipts: list[Receipt]) -> None:
    for attempt, receipt in enumerate(receipts, 1):
        after = after_attempt(attempt, receipt, NOW, 0.0)
        if after.state is not DeliveryState.QUEUED:
            return
    pytest.fail("the retry delays have no end")


def test_the_result_of_each_attempt() -> None:
    assert first_attempt_at(NOW, ()) == NOW
    assert after_attempt(3, Delivered(), NOW, 0.5) == AfterAttempt(DeliveryState.DELIVERED, 3, None, None)
    assert after_attempt(3, DeliveryRejected("410"), NOW, 0.5) == AfterAttempt(
        DeliveryState.DEAD, 3, None, "410"
    )
    last = after_attempt(len(RETRY_DELAYS), DeliveryFailed("500"), NOW, 0.5)
    assert last == AfterAttempt(DeliveryState.DEAD, len(RETRY_DELAYS), None, "500")
    again = after_attempt(1, DeliveryFailed("429", 50.0), NOW, 0.5, retry_delays=(0.0, 0.25))
    assert again == AfterAttempt(DeliveryState.QUEUED, 1, NOW + 50, "429")
    for asked in (None, -1.0, 0.0):
        soon = after_attempt(1, DeliveryFailed("500", asked), NOW, 0.5, retry_delays=(0.0, 0.25))
        assert soon == AfterAttempt(DeliveryState.QUEUED, 1, NOW + 0.25, "500")
