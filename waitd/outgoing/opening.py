"""How many connections are opened in one turn of the event loop."""

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

#: Connections opened in a turn. With TLS, one takes about a millisecond of CPU, handshake included;
#: after a start, thousands are wanted at once.
OPENED_PER_TURN = 4


class OpeningTurns:
    """Lets connections be opened in the order in which they are wanted, a few in each turn."""

    def __init__(self) -> None:
        """Use `opening_turns`, so that a loop has only one."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = OPENED_PER_TURN
        self._scheduled = False

    async def wait(self) -> None:
        """Returns in a turn that may open one more connection; at once if this one may."""
        if self._left:
            self._take()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _take(self) -> None:
        self._left -= 1
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled, self._left = False, OPENED_PER_TURN
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # else its request was cancelled
                turn.set_result(None)
                self._take()


# The turns may not refer to their loop: it would never be released.
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, OpeningTurns] = WeakKeyDictionary()


def opening_turns() -> OpeningTurns:
    """Returns the turns of the running loop."""
    return _TURNS.setdefault(asyncio.get_running_loop(), OpeningTurns())
