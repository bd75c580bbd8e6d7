"""When a wait is poked. Pure arithmetic on Unix seconds; the engine turns the results into monotonic time.

Due times lie on a grid, phase + k · poke_interval. The phase is a hash of what is asked, so that waits on the same target coincide
and can share one request, waits on different targets spread evenly, and nothing has to be stored.
"""

from math import floor
from typing import NamedTuple
from zlib import crc32

#: The longest pause between two pokes of a target that does not answer, in seconds.
MAX_UNREACHABLE_PAUSE = 300.0
#: The longest `Retry-After` that is honoured, in seconds (or one poke_interval, where that is longer).
MAX_RETRY_AFTER = 3600.0
#: How long after its start the poke at the deadline may take, in seconds.
FINAL_POKE_TIMEOUT = 1.0
#: A backing-off pause is stretched by up to this share, so that waits that began together drift apart.
BACKOFF_JITTER = 0.25


class Pacing(NamedTuple):
    """How often a wait is poked; shared between the waits that agree on it. All in seconds."""

    poke_interval: float
    exponential_backoff: bool = False
    max_wait: float | None = None


def grid_phase(key: str) -> float:
    """Where on its grid a target lies: a share of the interval in [0, 1), the same for equal keys in every process."""
    return crc32(key.encode("utf-8", "surrogatepass")) / 2**32


def next_grid_point(phase: float, poke_interval: float, started_at: float, now: float) -> float:
    """The first grid point after `now` that is at least half an interval after the poke that started at `started_at`.

    Pokes that were missed meanwhile collapse into this one.
    """
    earliest = max(now, started_at + poke_interval / 2)
    offset = phase * poke_interval
    due = (floor((earliest - offset) / poke_interval) + 1) * poke_interval + offset
    while (
        due <= now
    ):  # only where an interval is smaller than the resolution of a float this far from the epoch
        due += poke_interval
    return due


def backoff_pause(poke_interval: float, step: int, limit: float, jitter: float) -> float:
    """The pause before poke number `step` + 1 of a row: the interval, doubled each time, up to `limit`, never under the interval.

    `jitter` in [0, 1) stretches it by up to a quarter, inside the limit.
    """
    limit = max(limit, poke_interval)
    pause = min(poke_interval * 2.0 ** min(step, 60), limit)
    return max(poke_interval, min(pause * (1 + BACKOFF_JITTER * jitter), limit))


def capped_retry_after(pacing: Pacing, retry_after: float) -> float:
    """For how many seconds a target that asked for `retry_after` of them is left alone."""
    return min(max(retry_after, 0.0), max(pacing.poke_interval, MAX_RETRY_AFTER))


def next_poke_after_pending(
    pacing: Pacing, phase: float, step: int, *, started_at: float, now: float, jitter: float
) -> float:
    """When to look again after the `step`-th pending answer in a row (counted from 1)."""
    if not pacing.exponential_backoff:
        return next_grid_point(phase, pacing.poke_interval, started_at, now)
    limit = pacing.max_wait if pacing.max_wait is not None else float("inf")
    return now + backoff_pause(pacing.poke_interval, step - 1, limit, jitter)


def next_poke_after_unreachable(
    pacing: Pacing,
    phase: float,
    step: int,
    retry_after: float | None,
    *,
    started_at: float,
    now: float,
    jitter: float,
) -> float:
    """When to look again after the `step`-th poke in a row without an answer.

    The first one keeps its place on the grid: a single blip changes nothing.
    """
    if retry_after is not None:
        return max(
            now + capped_retry_after(pacing, retry_after),
            next_grid_point(phase, pacing.poke_interval, started_at, now),
        )
    if step <= 1:
        return next_grid_point(phase, pacing.poke_interval, started_at, now)
    return now + backoff_pause(pacing.poke_interval, step - 1, MAX_UNREACHABLE_PAUSE, jitter)
