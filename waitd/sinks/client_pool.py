"""What is dear to make and shared by many: made once by the first who needs it, made anew when it is broken or out of date, closed
when the last one has given it back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

#: How long making one may take, seconds; less than an attempt, so that the attempt can say what was wrong.
MAKE_SECONDS = 10.0
#: How long closing one may take, seconds.
CLOSE_SECONDS = 3.0
#: How many are kept; the one that was used longest ago gives way.
KEPT = 64

Thing = TypeVar("Thing")


class _Holding(Generic[Thing]):
    """One thing, ready or being made."""

    __slots__ = ("making", "retired", "users", "version")

    def __init__(self, version: object, making: "asyncio.Task[Thing]") -> None:
        self.version = version
        self.making = making
        self.users = 0
        self.retired = False

    def failed(self) -> bool:
        return self.making.done() and (self.making.cancelled() or self.making.exception() is not None)


class ClientPool(Generic[Thing]):
    """Things by key. A caller that is cancelled takes nothing from the others: making goes on in a task of its own."""

    def __init__(
        self,
        close: Callable[[Thing], Awaitable[object]],
        usable: Callable[[Thing], bool],
        *,
        kept: int = KEPT,
        make_seconds: float = MAKE_SECONDS,
    ) -> None:
        """`close` ends a thing for good, `usable` says whether one can be lent (again)."""
        self._close = close
        self._usable = usable
        self._kept = kept
        self._make_seconds = make_seconds
        self._held: OrderedDict[Hashable, _Holding[Thing]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lent(
        self, key: Hashable, version: object, make: Callable[[], Awaitable[Thing]]
    ) -> AsyncIterator[Thing]:
        """The thing called `key`, for the length of the block; made by `make` where there is none, or one of another version.

        Raises:
            TimeoutError: making it took too long.
            Exception: what `make` raised.
        """
        holding = self._holding(key, version, make)
        holding.users += 1
        try:
            yield await asyncio.shield(holding.making)
        finally:
            holding.users -= 1
            if holding.retired and not holding.users:
                self._close_soon(holding)

    def drop(self, key: Hashable, thing: Thing) -> None:
        """Lends this one to nobody else: the next who asks gets a new one."""
        holding = self._held.get(key)
        ready = holding is not None and holding.making.done() and not holding.failed()
        if holding is not None and ready and holding.making.result() is thing:
            self._retire(key)

    async def aclose(self) -> None:
        """Closes all, whoever has them, and waits for that."""
        for holding in self._held.values():
            holding.making.cancel()  # no effect on one that is made
        for key in list(self._held):
            holding = self._held[key]
            self._retire(key)
            if holding.users:
                self._close_soon(holding)
        while self._closing:
            await asyncio.wait(self._closing)

    def _holding(
        self, key: Hashable, version: object, make: Callable[[], Awaitable[Thing]]
    ) -> _Holding[Thing]:
        holding = self._held.get(key)
        if holding is not None and self._fits(holding, version):
            self._held.move_to_end(key)
            return holding
        if holding is not None:
            self._retire(key)
        while len(self._held) >= self._kept:
            self._retire(next(iter(self._held)))
        making = asyncio.create_task(self._made(make), name=f"open {key}")
        making.add_done_callback(_seen)
        self._held[key] = holding = _Holding(version, making)
        return holding

    def _fits(self, holding: _Holding[Thing], version: object) -> bool:
        same = holding.version is version or holding.version == version
        if not same or holding.failed():
            return False
        return not holding.making.done() or self._usable(holding.making.result())

    async def _made(self, make: Callable[[], Awaitable[Thing]]) -> Thing:
        async with asyncio.timeout(self._make_seconds):
            return await make()

    def _retire(self, key: Hashable) -> None:
        holding = self._held.pop(key)
        holding.retired = True
        if not holding.users:
            self._close_soon(holding)

    def _close_soon(self, holding: _Holding[Thing]) -> None:
        closing = asyncio.create_task(self._closed(holding), name="close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _closed(self, holding: _Holding[Thing]) -> None:
        await asyncio.wait([holding.making])
        if holding.failed():
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._close(holding.making.result())
        except Exception as error:  # noqa: BLE001 - it is out of use either way
            log.info("not_closed_in_order", error=type(error).__name__)


def _seen(making: "asyncio.Task[Thing]") -> None:
    """Looks at the exception of a task whose callers may all have gone."""
    if not making.cancelled():
        making.exception()
