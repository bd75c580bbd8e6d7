"""What becomes of a delivery after one attempt. `queued → delivered | dead`; the last two absorb."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, assert_never

DeliveryId = NewType("DeliveryId", str)
"""A UUIDv7. Brokers and webhook receivers deduplicate by it; the event inside keeps the wait's id."""

#: Seconds before each attempt, counted from the one before; its length is the number of attempts.
RETRY_DELAYS = (0.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 18000.0, 36000.0)
#: Each pause is stretched or shortened by up to this share.
RETRY_JITTER = 0.2
#: The longest `Retry-After` of a sink that is honoured, in seconds.
MAX_SINK_RETRY_AFTER = 36000.0


class DeliveryState(StrEnum):
    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took the event and said so."""


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """The destination did not take it now; the deliverer tries again after the next retry delay.

    Attributes:
        error: one sentence for a person, without secrets.
        retry_after: seconds that the destination asked for, or None.
    """

    error: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRejected:
    """The destination will never take it (410, a broken parameter)."""

    error: str


@dataclass(frozen=True, slots=True)
class DeliveryPostponed:
    """It is too early, which is nobody's failure: it is tried again in `retry_after` seconds, and this attempt does not count.

    The sink bounds how often it postpones; the retry delays do not.

    Attributes:
        why: one sentence for a person, without secrets.
        retry_after: seconds.
    """

    why: str
    retry_after: float


Receipt = Delivered | DeliveryFailed | DeliveryRejected | DeliveryPostponed


@dataclass(frozen=True, slots=True)
class AfterAttempt:
    """What to store. `next_attempt_at` (Unix seconds) is set while the state is queued, `last_error` unless it is delivered."""

    state: DeliveryState
    attempts: int
    next_attempt_at: float | None
    last_error: str | None


def first_attempt_at(now: float, retry_delays: Sequence[float] = RETRY_DELAYS) -> float:
    """When a new delivery is first tried, Unix seconds."""
    return now + (retry_delays[0] if retry_delays else 0.0)


def after_attempt(
    attempts: int, receipt: Receipt, now: float, jitter: float, retry_delays: Sequence[float] = RETRY_DELAYS
) -> AfterAttempt:
    """What becomes of a delivery whose attempt number `attempts` (counted from 1) got `receipt` at `now`.

    `jitter` is a number in [0, 1); the pause is the next retry delay ±20 %, or the
    destination's `Retry-After` where that is longer.
    """
    match receipt:
        case Delivered():
            return AfterAttempt(DeliveryState.DELIVERED, attempts, None, None)
        case DeliveryRejected():
            return AfterAttempt(DeliveryState.DEAD, attempts, None, receipt.error)
        case DeliveryPostponed():
            return AfterAttempt(DeliveryState.QUEUED, attempts - 1, now + receipt.retry_after, receipt.why)
        case DeliveryFailed():
            if attempts >= len(retry_delays):
                return AfterAttempt(DeliveryState.DEAD, attempts, None, receipt.error)
            pause = retry_delays[attempts] * (1 - RETRY_JITTER + 2 * RETRY_JITTER * jitter)
            asked = min(max(receipt.retry_after or 0.0, 0.0), MAX_SINK_RETRY_AFTER)
            return AfterAttempt(DeliveryState.QUEUED, attempts, now + max(pause, asked), receipt.error)
        case _:  # pragma: no cover - mypy proves it
            assert_never(receipt)
