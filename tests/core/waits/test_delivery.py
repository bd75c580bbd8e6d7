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
    assert first_attempt_at(NOW, ()) == NOW
    assert first_attempt_at(NOW, (3.0,)) == NOW + 3


def failed(state: DeliveryState, attempts: int, error: str, pause: float | None = None) -> AfterAttempt:
    return AfterAttempt(state, attempts, None if pause is None else NOW + pause, error)


@pytest.mark.parametrize(
    ("attempts", "receipt", "after"),
    [
        (1, Delivered(), AfterAttempt(DeliveryState.DELIVERED, 1, None, None)),
        (2, Delivered(), AfterAttempt(DeliveryState.DELIVERED, 2, None, None)),
        (1, DeliveryRejected("410"), failed(DeliveryState.DEAD, 1, "410")),
        (2, DeliveryRejected("410"), failed(DeliveryState.DEAD, 2, "410")),
        (2, DeliveryFailed("500"), failed(DeliveryState.DEAD, 2, "500")),
        (1, DeliveryFailed("429", 50.0), failed(DeliveryState.QUEUED, 1, "429", 50)),
        (1, DeliveryFailed("500"), failed(DeliveryState.QUEUED, 1, "500", 0.25)),
        (1, DeliveryFailed("500", -1.0), failed(DeliveryState.QUEUED, 1, "500", 0.25)),
        (1, DeliveryFailed("500", 0.0), failed(DeliveryState.QUEUED, 1, "500", 0.25)),
    ],
)
def test_the_receipt_decides_what_follows_an_attempt(
    attempts: int, receipt: Receipt, after: AfterAttempt
) -> None:
    assert after_attempt(attempts, receipt, NOW, 0.5, retry_delays=(0.0, 0.25)) == after


def test_a_failed_delivery_is_retried_after_each_delay_and_then_dead() -> None:
    pauses = []
    for attempt in range(1, len(RETRY_DELAYS)):
        after = after_attempt(attempt, DeliveryFailed("500"), NOW, 0.5)
        assert after.state is DeliveryState.QUEUED
        assert after.next_attempt_at is not None
        pauses.append(after.next_attempt_at - NOW)
    assert pauses == pytest.approx(RETRY_DELAYS[1:])
    last = after_attempt(len(RETRY_DELAYS), DeliveryFailed("500"), NOW, 0.5)
    assert last == failed(DeliveryState.DEAD, len(RETRY_DELAYS), "500")


@given(st.integers(1, 20), st.floats(0, 1e5))
def test_a_postponed_attempt_does_not_count(attempt: int, pause: float) -> None:
    after = after_attempt(attempt, DeliveryPostponed("not yet", pause), NOW, 0.5)
    assert (after.state, after.attempts) == (DeliveryState.QUEUED, attempt - 1)
    assert (after.next_attempt_at, after.last_error) == (NOW + pause, "not yet")


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.floats(-10, 1e9))
def test_a_pause_is_within_a_fifth_of_its_delay_or_the_requested_retry_after(
    attempt: int, jitter: float, retry_after: float
) -> None:
    plain = after_attempt(attempt, DeliveryFailed("500"), NOW, jitter)
    polite = after_attempt(attempt, DeliveryFailed("429", retry_after), NOW, jitter)
    assert plain.next_attempt_at is not None
    assert polite.next_attempt_at is not None
    delay = RETRY_DELAYS[attempt]
    assert delay * 0.8 - 1e-3 <= plain.next_attempt_at - NOW <= delay * 1.2 + 1e-3
    assert polite.next_attempt_at - NOW >= min(retry_after, MAX_SINK_RETRY_AFTER) - 1e-3


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
