"""A pool of clients that are opened on first use, shared, and replaced when broken."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

#: Seconds that opening a client may take; less than a delivery attempt, so that the attempt can
#: report it.
OPEN_SECONDS = 10.0
#: Seconds that closing a client may take.
CLOSE_SECONDS = 3.0
#: How many clients are kept; the least recently used is closed first.
MAX_CLIENTS = 64

Client = TypeVar("Client")


class _PooledClient(Generic[Client]):
    """One client, open or being opened."""

    __slots__ = ("built_from", "opening", "retired", "users")

    def __init__(self, built_from: object, opening: "asyncio.Task[Client]") -> None:
        self.built_from = built_from
        self.opening = opening
        self.users = 0
        self.retired = False

    def failed(self) -> bool:
        return self.opening.done() and (self.opening.cancelled() or self.opening.exception() is not None)


class ClientPool(Generic[Client]):
    """Clients by key.

    A client opens in a task of its own, so a cancelled caller does not disturb the others.
    """

    def __init__(
        self,
        close: Callable[[Client], Awaitable[object]],
        usable: Callable[[Client], bool],
        *,
        max_clients: int = MAX_CLIENTS,
        open_seconds: float | None = None,
    ) -> None:
        """Creates a pool.

        Args:
            close: closes a client for good.
            usable: says whether a client can be used again.
            max_clients: how many clients are kept.
            open_seconds: how long opening a client may take; None: `OPEN_SECONDS`.
        """
        self._close = close
        self._usable = usable
        self._max_clients = max_clients
        self._open_seconds = OPEN_SECONDS if open_seconds is None else open_seconds
        self._clients: OrderedDict[Hashable, _PooledClient[Client]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(
        self, key: Hashable, built_from: object, open_client: Callable[[], Awaitable[Client]]
    ) -> AsyncIterator[Client]:
        """The client of `key`, for the length of the block.

        `built_from` is what the client is made of, such as its connection. A client
        is opened if there is none, or if the one there is was built from something else.

        Raises:
            TimeoutError: opening took too long.
            Exception: what `open_client` raised.
        """
        pooled = self._get(key, built_from, open_client)
        pooled.users += 1
        try:
            yield await asyncio.shield(pooled.opening)
        finally:
            pooled.users -= 1
            if pooled.retired and not pooled.users:
                self._close_soon(pooled)

    def discard(self, key: Hashable, client: Client) -> None:
        """Replaces this client: the next caller gets a new one."""
        pooled = self._clients.get(key)
        is_open = pooled is not None and pooled.opening.done() and not pooled.failed()
        if pooled is not None and is_open and pooled.opening.result() is client:
            self._retire(key)

    async def aclose(self) -> None:
        """Closes all clients, even those in use, and waits for it."""
        for pooled in self._clients.values():
            pooled.opening.cancel()  # no effect on an open client
        for key in list(self._clients):
            pooled = self._clients[key]
            self._retire(key)
            if pooled.users:
                self._close_soon(pooled)
        while self._closing:
            await asyncio.wait(self._closing)

    def _get(
        self, key: Hashable, built_from: object, open_client: Callable[[], Awaitable[Client]]
    ) -> _PooledClient[Client]:
        pooled = self._clients.get(key)
        if pooled is not None and self._is_current(pooled, built_from):
            self._clients.move_to_end(key)
            return pooled
        if pooled is not None:
            self._retire(key)
        while len(self._clients) >= self._max_clients:
            self._retire(next(iter(self._clients)))
        opening = asyncio.create_task(self._open(open_client), name=f"open {key}")
        opening.add_done_callback(_retrieve_exception)
        self._clients[key] = pooled = _PooledClient(built_from, opening)
        return pooled

    def _is_current(self, pooled: _PooledClient[Client], built_from: object) -> bool:
        same = pooled.built_from is built_from or pooled.built_from == built_from
        if not same or pooled.failed():
            return False
        return not pooled.opening.done() or self._usable(pooled.opening.result())

    async def _open(self, open_client: Callable[[], Awaitable[Client]]) -> Client:
        async with asyncio.timeout(self._open_seconds):
            return await open_client()

    def _retire(self, key: Hashable) -> None:
        pooled = self._clients.pop(key)
        pooled.retired = True
        if not pooled.users:
            self._close_soon(pooled)

    def _close_soon(self, pooled: _PooledClient[Client]) -> None:
        closing = asyncio.create_task(self._close_pooled(pooled), name="close client")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close_pooled(self, pooled: _PooledClient[Client]) -> None:
        await asyncio.wait([pooled.opening])
        if pooled.failed():
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._close(pooled.opening.result())
        except Exception as error:  # noqa: BLE001 - the client is out of use either way
            log.info("client_close_failed", error=type(error).__name__)


def _retrieve_exception(opening: "asyncio.Task[Client]") -> None:
    """Prevents asyncio's "exception was never retrieved" where every caller was cancelled."""
    if not opening.cancelled():
        opening.exception()
