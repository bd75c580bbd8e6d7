"""Decides what follows a delivery attempt: `queued → delivered | dead`. The last two are final."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, NewType, assert_never

from waitd.core.waits.verdict import Unreachable

DeliveryId = NewType("DeliveryId", str)
"""A UUIDv7, by which brokers deduplicate attempts. Consumers deduplicate by the event's id.

The event's own id is the wait's.
"""

#: Seconds before each attempt, counted from the previous one. The length is the number of attempts.
RETRY_DELAYS = (0.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 18000.0, 36000.0)
#: Each pause is lengthened or shortened by up to this share.
RETRY_JITTER = 0.2
#: The pause after an attempt that the daemon's own trouble prevented, in seconds.
LOCAL_RETRY = 5.0
#: The longest `Retry-After` of a sink that is honoured, in seconds.
MAX_SINK_RETRY_AFTER = 36000.0


class OutboxKey(NamedTuple):
    """The name under which the outbox keeps the deliveries of one namespace to one destination.

    Deliveries that an older waitd stored have no namespace in it.
    """

    destination: str
    namespace: str = ""

    @classmethod
    def parse(cls, text: str) -> "OutboxKey":
        """The key whose text it is."""
        destination, separator, namespace = text.rpartition("\n")
        return cls(destination, namespace) if separator else cls(text)

    def __str__(self) -> str:
        return f"{self.destination}\n{self.namespace}" if self.namespace else self.destination


class DeliveryState(StrEnum):
    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination confirmed the event, or has no use for it any more.

    Attributes:
        note: why it has no use for it, a sentence for people; None: it has the event.
    """

    note: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """The attempt failed; the delivery is retried after the next of the retry delays.

    Attributes:
        error: a sentence for people, without secrets.
        retry_after: the pause that the destination asked for, in seconds, or None.
        suspect: what may be the daemon's own trouble instead, see `LocalTrouble.judge`.
    """

    error: str
    retry_after: float | None = None
    suspect: Unreachable | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRejected:
    """The destination will never accept the event (a 410, an invalid parameter)."""

    error: str


@dataclass(frozen=True, slots=True)
class DeliveryPostponed:
    """It is too early to deliver. The attempt does not count and is repeated in `retry_after`
    seconds.

    The sink must limit how often it returns this, because the retry delays do not.

    Attributes:
        why: a sentence for people, without secrets.
        retry_after: seconds.
        local: whether the daemon's own trouble prevented the attempt.
    """

    why: str
    retry_after: float
    local: bool = False


def local_receipt(trouble: str) -> DeliveryPostponed:
    """The receipt of an attempt that the daemon's own trouble prevented: it does not count."""
    return DeliveryPostponed(f"waitd could not deliver: {trouble}.", LOCAL_RETRY, local=True)


Receipt = Delivered | DeliveryFailed | DeliveryRejected | DeliveryPostponed


@dataclass(frozen=True, slots=True)
class AfterAttempt:
    """The new state of a delivery.

    Attributes:
        state: the delivery's state.
        attempts: the attempts that count.
        next_attempt_at: Unix seconds while queued, else None.
        last_error: None once delivered, or the note of the receipt.
    """

    state: DeliveryState
    attempts: int
    next_attempt_at: float | None
    last_error: str | None


def first_attempt_at(now: float, retry_delays: Sequence[float] = RETRY_DELAYS) -> float:
    """When a new delivery is first attempted, in Unix seconds."""
    return now + (retry_delays[0] if retry_delays else 0.0)


def after_attempt(
    attempts: int, receipt: Receipt, now: float, jitter: float, retry_delays: Sequence[float] = RETRY_DELAYS
) -> AfterAttempt:
    """Decides what follows a delivery attempt.

    The pause is the next retry delay ±20 %, or the destination's `Retry-After` if that is longer.

    Args:
        attempts: the number of this attempt, counted from 1.
        receipt: its result.
        now: Unix seconds.
        jitter: a random number in [0, 1).
        retry_delays: the setting `delivery_retry_delays`, in seconds.
    """
    match receipt:
        case Delivered():
            return AfterAttempt(DeliveryState.DELIVERED, attempts, None, receipt.note)
        case DeliveryRejected():
            return AfterAttempt(DeliveryState.DEAD, attempts, None, receipt.error)
        case DeliveryPostponed():
            return AfterAttempt(DeliveryState.QUEUED, attempts - 1, now + receipt.retry_after, receipt.why)
        case DeliveryFailed():
            if attempts >= len(retry_delays):
                return AfterAttempt(DeliveryState.DEAD, attempts, None, receipt.error)
            pause = retry_delays[attempts] * (1 - RETRY_JITTER + 2 * RETRY_JITTER * jitter)
            requested = min(max(receipt.retry_after or 0.0, 0.0), MAX_SINK_RETRY_AFTER)
            return AfterAttempt(DeliveryState.QUEUED, attempts, now + max(pause, requested), receipt.error)
        case _:  # pragma: no cover - mypy proves it
            assert_never(receipt)
