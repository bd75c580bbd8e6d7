"""Judges each wait of a group alone, so that a defect met in one changes no other's verdict."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import TypeVar

import structlog

from waitd.core.waits.verdict import Unreachable

log = structlog.get_logger(__name__)

#: The event loop gets a turn after this many.
_PER_TURN = 8

_Item = TypeVar("_Item", bound=Hashable)
_Result = TypeVar("_Result")


async def judge_each(
    items: Collection[_Item], judge: Callable[[_Item, int], Awaitable[_Result]]
) -> dict[_Item, _Result | Unreachable]:
    """Returns the verdict on each of some different items; of a defect, one that names it.

    `judge` gets the item and how many are left, this one included, which share the time left.
    """
    verdicts: dict[_Item, _Result | Unreachable] = {}
    for index, item in enumerate(items):
        try:
            verdicts[item] = await judge(item, len(items) - index)
        except Exception as error:  # noqa: BLE001 - a defect, which the verdict and the log name
            verdicts[item] = defect_verdict(error)
        if index % _PER_TURN == _PER_TURN - 1:
            await asyncio.sleep(0)
    return verdicts


def defect_verdict(error: Exception) -> Unreachable:
    """Logs a defect that was met while judging one wait, and returns that wait's verdict."""
    log.error("wait_not_judged", error=type(error).__name__, exc_info=error)
    return Unreachable(
        "internal_error",
        f"The answer cannot be judged ({type(error).__name__}); the daemon's log has the traceback.",
    )
