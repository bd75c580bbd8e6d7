"""Something that somebody hands out for a while, a token or a pair of keys: fetched when it is needed, by one for all, and used until
shortly before its end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, NamedTuple, TypeVar

from waitd.core.errors import ConnectionUnavailable

#: Seconds between two fetches of something that a target refused.
REFRESH_INTERVAL = 30.0
#: Seconds before a fetch that failed is tried again.
RETRY_PAUSE = 5.0

Value = TypeVar("Value")


class CachedToken(NamedTuple, Generic[Value]):
    """What was handed out; after how many seconds a new one is asked for, and after how many this one ends."""

    value: Value
    renew_after: float
    lifetime: float


class TokenCache(Generic[Value]):
    """One such thing. `fetch(anew)` asks for it, with `anew` because the last one was refused; `now` is a monotonic clock in seconds.

    Fetching goes on in a task of its own when the one who began it is cancelled: that a token endpoint is slower than a poke's own patience
    must not mean that there is never a token.
    """

    def __init__(
        self, fetch: Callable[[bool], Awaitable[CachedToken[Value]]], *, now: Callable[[], float], name: str
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._name = name
        self._value: Value | None = None
        self._renew_at = -inf
        self._ends_at = -inf
        self._retry_at = -inf
        self._renewed_at = -inf
        self._error: Exception | None = None
        self._flight: asyncio.Task[None] | None = None

    def cached_fresh(self) -> Value | None:
        """What can be used now without asking anybody: a new one may be on its way meanwhile, or may just not be to be had."""
        if self._value is None:
            return None
        now = self._now()
        busy = self._flight is not None or now < self._retry_at
        return self._value if now < self._renew_at or (busy and now < self._ends_at) else None

    async def get(self, refused: Value | None = None) -> Value:
        """What can be used now, fetched where it has to be; not `refused`, if there is another to be had.

        Raises:
            ConnectionUnavailable: there is none to be had now.
            ValueError: what is asked for cannot be asked for so.
        """
        value = self.cached_fresh()
        if value is not None and value is not refused:
            return value
        if self._flight is None:
            now = self._now()
            if value is not None and now - self._renewed_at < REFRESH_INTERVAL:
                return value  # it is the newest, and refused all the same
            if now < self._retry_at:
                raise _again(self._error)
            if value is not None:
                self._renewed_at = now
            self._flight = asyncio.create_task(self._fly(value is not None), name=self._name)
        await asyncio.shield(self._flight)
        if self._error is not None:
            raise _again(self._error)
        if self._value is None:
            raise ConnectionUnavailable("the daemon is ending")
        return self._value

    async def aclose(self) -> None:
        """Ends a fetch that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _fly(self, anew: bool) -> None:
        try:
            lent = await self._fetch(anew)
        except (ConnectionUnavailable, ValueError) as error:
            self._error, self._retry_at = error, self._now() + RETRY_PAUSE
        else:
            now = self._now()
            self._value, self._error = lent.value, None
            self._renew_at, self._ends_at = now + lent.renew_after, now + lent.lifetime
        finally:
            self._flight = None


def _again(error: Exception | None) -> Exception:
    """A fresh copy: raised in many tasks, one exception would gather the traceback of each."""
    return ConnectionUnavailable() if error is None else type(error)(*error.args)
