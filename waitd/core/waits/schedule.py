"""When a wait is poked. Pure arithmetic on Unix seconds; the engine converts it to monotonic time.

Due times lie on a grid: phase + k · poke_interval. The phase is a hash of the coalescing key, so
that waits on the same target are due together and can share one request, waits on different targets
spread evenly, and nothing needs to be stored. Phases lie on slots, so that pokes that are due at
nearly the same time share one waking of the daemon.
"""

from math import floor
from typing import NamedTuple
from zlib import crc32

#: The longest pause between two pokes of an unreachable target, in seconds.
MAX_UNREACHABLE_PAUSE = 300.0
#: The longest pause after a poke that the daemon's own trouble prevented, in seconds.
MAX_LOCAL_PAUSE = 30.0
#: For how long after its deadline a wait is still poked, while the daemon's own trouble prevents
#: its final poke, in seconds.
LOCAL_GRACE = 300.0
#: The longest `Retry-After` that is honoured, in seconds; or one poke_interval if that is longer.
MAX_RETRY_AFTER = 3600.0
#: The time limit of the final poke, the one at the deadline, in seconds.
FINAL_POKE_TIMEOUT = 1.0
#: A backoff pause is lengthened by up to this share, so that waits that started together spread
#: out.
BACKOFF_JITTER = 0.25
#: Waits whose poke was missed while the daemon was down are poked within this many seconds, spread
#: by their phase.
CATCH_UP_SECONDS = 10.0
#: The slots of a grid, in seconds; an interval has at least MIN_SLOTS. With a million waits at a
#: minute, the 420 pokes of a slot take half of it; longer ones would make them later.
SLOT_SECONDS = 0.025
MIN_SLOTS = 100


class Pacing(NamedTuple):
    """How often a wait is poked, in seconds. Waits with equal values share one object."""

    poke_interval: float
    exponential_backoff: bool = False
    max_wait: float | None = None


def grid_phase(key: str, poke_interval: float) -> float:
    """The phase of a target's grid as a share of the interval, in [0, 1).

    Stable across processes.
    """
    slots = max(MIN_SLOTS, poke_interval / SLOT_SECONDS)
    return floor(crc32(key.encode("utf-8", "surrogatepass")) / 2**32 * slots) / slots


def next_grid_point(phase: float, poke_interval: float, started_at: float, now: float) -> float:
    """The first grid point after `now` that is at least half an interval after `started_at`.

    `started_at` is the start of the last poke. Pokes missed since then collapse into this one.
    """
    earliest = max(now, started_at + poke_interval / 2)
    offset = phase * poke_interval
    due = (floor((earliest - offset) / poke_interval) + 1) * poke_interval + offset
    while due <= now:  # only if the interval is below the resolution of a float at this time
        due += poke_interval
    return due


def next_poke_after_restart(phase: float, poke_interval: float, last_at: float, now: float) -> float:
    """The next due time of a wait whose last poke, at `last_at`, was before the daemon's start."""
    last_at = min(last_at, now)  # the clock may have been set back
    due = next_grid_point(phase, poke_interval, last_at - poke_interval, now)
    if last_at + poke_interval <= now:
        due = min(due, now + phase * CATCH_UP_SECONDS)
    return due


def backoff_pause(poke_interval: float, step: int, limit: float, jitter: float) -> float:
    """The pause after `step` doublings: poke_interval · 2^step, at most `limit`, in seconds.

    It is never shorter than the interval. `jitter` in [0, 1) lengthens it by up to BACKOFF_JITTER,
    within the limit.
    """
    limit = max(limit, poke_interval)
    pause = min(poke_interval * 2.0 ** min(step, 60), limit)
    return max(poke_interval, min(pause * (1 + BACKOFF_JITTER * jitter), limit))


def capped_retry_after(pacing: Pacing, retry_after: float) -> float:
    """The pause in seconds for a target that sent this `Retry-After` (in seconds)."""
    return min(max(retry_after, 0.0), max(pacing.poke_interval, MAX_RETRY_AFTER))


def next_poke_after_pending(
    pacing: Pacing, phase: float, step: int, *, started_at: float, now: float, jitter: float
) -> float:
    """The next due time after the `step`-th consecutive pending verdict (counted from 1)."""
    if not pacing.exponential_backoff:
        return next_grid_point(phase, pacing.poke_interval, started_at, now)
    limit = pacing.max_wait if pacing.max_wait is not None else float("inf")
    return now + backoff_pause(pacing.poke_interval, step - 1, limit, jitter)


def next_poke_after_local_error(pacing: Pacing, now: float, jitter: float) -> float:
    """The next due time after a poke that the daemon's own trouble prevented."""
    return now + min(pacing.poke_interval, MAX_LOCAL_PAUSE * (0.5 + jitter / 2))


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
    """The next due time after the `step`-th consecutive unreachable verdict (counted from 1).

    The first one stays on the grid, so that a single error changes nothing.
    """
    if retry_after is not None:
        return max(
            now + capped_retry_after(pacing, retry_after),
            next_grid_point(phase, pacing.poke_interval, started_at, now),
        )
    if step <= 1:
        return next_grid_point(phase, pacing.poke_interval, started_at, now)
    return now + backoff_pause(pacing.poke_interval, step - 1, MAX_UNREACHABLE_PAUSE, jitter)
