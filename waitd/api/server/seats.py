"""How many requests of one namespace are served at a time, while others send requests, too.

All requests share one event loop and one writer, and each that is being served delays the others.
So a namespace with many connections queues behind itself, and the requests of another one pass.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from aiohttp import web

#: How many requests of a namespace that read are served at a time, and how many that write.
SEATS = 8
#: For how long after a request of another namespace a namespace has no more than that, in seconds.
SHARED_SECONDS = 60.0


class _Seats:
    """The seats of one namespace: how many are taken, and who waits for one."""

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Waits for a seat, which is taken then."""
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came at the same moment
                self.leave()
            raise

    def admit_all(self) -> None:
        """Gives every waiting request a seat."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.taken += 1

    def leave(self) -> None:
        """Gives the seat to the next request that still waits, unless too many are taken.

        They are after a time in which the namespace was alone.
        """
        while self.waiting and self.taken <= SEATS:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1


#: A request has the seats here of which it takes one; None once it has left.
_SEATS: web.RequestKey[_Seats | None] = web.RequestKey("_SEATS", _Seats)


class NamespaceSeats:
    """The seats of all namespaces. A namespace that is alone has any number."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._by_namespace: dict[tuple[str, bool], _Seats] = {}
        self._latest: str | None = None
        self._shared_until = 0.0

    async def take(self, request: web.Request, namespace: str) -> None:
        """Takes a seat for a request, which has to leave it; waits until there is one."""
        key = namespace, request.method == "POST"
        seats = self._by_namespace.get(key)
        if seats is None:
            seats = self._by_namespace[key] = _Seats()
        if namespace != self._latest:
            if self._latest is not None:
                self._shared_until = self._now() + SHARED_SECONDS
            self._latest = namespace
        if self._now() >= self._shared_until:  # it is alone, or alone again
            seats.admit_all()
            seats.taken += 1
        elif seats.taken < SEATS:
            seats.taken += 1
        else:
            await seats.wait()
        request[_SEATS] = seats


def leave_seat(request: web.Request) -> None:
    """Lets the next request of the namespace be served, also before this one is answered.

    Requests that have a limit of their own leave at once: streams, long polls, lists and batches.
    """
    seats = request.get(_SEATS)
    if seats is not None:
        request[_SEATS] = None
        seats.leave()
