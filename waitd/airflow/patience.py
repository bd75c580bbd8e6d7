"""Repeats calls to a daemon that is away for a while, and says so in the task's log."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

from waitd.airflow.client import WaitdUnreachable

#: Pauses between the calls, in seconds; the last one repeats. Each gets up to 50 % of jitter. The
#: client itself has tried for some seconds before each.
PAUSES = (5.0, 10.0, 20.0, 30.0)

Result = TypeVar("Result")


def call_patiently(call: Callable[[], Result], seconds: float, log: Any) -> Result:
    """Calls until waitd answers, for so many seconds at most.

    Raises:
        WaitdUnreachable: it did not answer in time.
    """
    started = time.monotonic()
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    for attempt in count():
        try:
            result = call()
        except WaitdUnreachable as error:
            left = started + seconds - time.monotonic()
            if left <= 0:
                raise
            pause = min(PAUSES[min(attempt, len(PAUSES) - 1)] * random.uniform(1.0, 1.5), left)  # noqa: S311 - spreads calls, protects nothing
            log.warning(
                "%s Trying again in %.0f s, until %s (register_timeout: %g s).",
                error, pause, until.isoformat(timespec="seconds"), seconds,
            )  # fmt: skip
            time.sleep(pause)
        else:
            if attempt:
                log.info("waitd answers again, after %.0f s.", time.monotonic() - started)
            return result
    raise AssertionError  # `count` does not end
