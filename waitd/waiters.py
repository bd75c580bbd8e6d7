"""Tasks that wait for something scarce, such as a slot, until another task hands it over."""

import asyncio
from collections.abc import Callable

from waitd.core.fair_shares import FairBacklog, FairShares


async def wait_for_turn(turn: asyncio.Future[None], give_back: Callable[[], object]) -> None:
    """Waits until `turn` is set, which hands something over to this task.

    `give_back` is called if the task is cancelled at that very moment: it cannot use what it got.
    """
    try:
        await turn
    except BaseException:
        if turn.done() and not turn.cancelled():
            give_back()
        raise


class Waiters:
    """Tasks in a queue. Flows, such as namespaces, take turns; within a flow the first is first."""

    def __init__(self, shares: FairShares | None = None) -> None:
        self._backlog: FairBacklog[asyncio.Future[None]] = FairBacklog(shares or FairShares())

    def __bool__(self) -> bool:
        return bool(self._backlog)

    async def wait(self, flow: str, give_back: Callable[[], object]) -> None:
        """Waits for a call of `admit` that picks this task. `give_back`: see `wait_for_turn`."""
        turn = asyncio.get_running_loop().create_future()
        self._backlog.append(flow, turn)
        await wait_for_turn(turn, give_back)

    def admit(self) -> bool:
        """Hands over to the next task that still waits; returns False if there is none."""
        while self._backlog:
            if self._backlog.peek().done():  # the task was cancelled, and its flow has had nothing
                self._backlog.pop(cost=0)
            else:
                self._backlog.pop().set_result(None)
                return True
        return False
