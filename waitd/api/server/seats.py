"""How many requests of one namespace are served at a time, while others send requests, too.

All requests share one event loop and one writer, and each that is being served delays the others.
So a namespace with many connections queues behind itself, and the requests of another one pass.
"""

from collections.abc import Callable
from time import monotonic

from aiohttp import web

from waitd.waiters import Waiters

#: How many requests of a namespace that read are served at a time, and how many that write.
SEATS = 8
#: For how long after a request of another namespace a namespace has no more than that, in seconds.
SHARED_SECONDS = 60.0


class _Seats:
    """The seats of one namespace: how many are taken, and who waits for one."""

    __slots__ = ("taken", "waiters")

    def __init__(self) -> None:
        self.taken = 0
        self.waiters = Waiters()

    def admit_all(self) -> None:
        """Gives every waiting request a seat."""
        while self.waiters.admit():
            self.taken += 1

    def leave(self) -> None:
        """Gives the seat to the next request that still waits, unless too many are taken.

        They are after a time in which the namespace was alone.
        """
        if self.taken > SEATS or not self.waiters.admit():
            self.taken -= 1


class NamespaceSeats:
    """The seats of all namespaces. A namespace that is alone has any number."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._by_namespace: dict[tuple[str, bool], _Seats] = {}
        self._latest: str | None = None
        self._shared_until = 0.0

    async def take(self, namespace: str, *, writes: bool) -> _Seats:
        """Takes a seat, and waits until there is one; returns the seats that it is one of."""
        key = namespace, writes
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
            await seats.waiters.wait("", seats.leave)
        return seats


class _Seat:
    """The seat of one request: whose it is, and of which seats it is one while it is taken."""

    __slots__ = ("all", "namespace", "taken", "writes")

    def __init__(self, all_: NamespaceSeats, namespace: str, *, writes: bool) -> None:
        self.all, self.namespace, self.writes = all_, namespace, writes
        self.taken: _Seats | None = None


_SEAT: web.RequestKey[_Seat] = web.RequestKey("_SEAT", _Seat)


def reserve_seat(request: web.Request, seats: NamespaceSeats, namespace: str) -> None:
    """Makes a request one of a namespace, that takes a seat with `take_seat`.

    It takes one of those for writing if it is a POST.
    """
    request[_SEAT] = _Seat(seats, namespace, writes=request.method == "POST")


async def take_seat(request: web.Request) -> None:
    """Takes a seat for a request that has reserved one, and waits until there is one.

    A request with a body takes it once the body is there: however slowly that arrives, it keeps
    no seat from others.
    """
    seat = request.get(_SEAT)
    if seat is not None and seat.taken is None:
        seat.taken = await seat.all.take(seat.namespace, writes=seat.writes)


def leave_seat(request: web.Request) -> None:
    """Lets the next request of the namespace be served, also before this one is answered.

    Requests that have a limit of their own leave at once: streams, long polls and lists.
    """
    seat = request.get(_SEAT)
    if seat is not None and seat.taken is not None:
        seats, seat.taken = seat.taken, None
        seats.leave()
