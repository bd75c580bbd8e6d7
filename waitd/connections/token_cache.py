"""A cache for one expiring token or pair of keys.

One fetch serves all callers, and a token is renewed before it expires.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, NamedTuple, TypeVar

from waitd.core.errors import ConnectionUnavailable, copy_error

#: Seconds between two fetches that replace a token which a target refused.
REFRESH_INTERVAL = 30.0
#: Seconds before a failed fetch is retried.
RETRY_PAUSE = 5.0

Value = TypeVar("Value")


class CachedToken(NamedTuple, Generic[Value]):
    """A token; after how many seconds to renew it, and after how many it expires."""

    value: Value
    renew_after: float
    lifetime: float


class TokenCache(Generic[Value]):
    """The cache of one token.

    A fetch runs in a task of its own and survives the cancellation of the caller that started it.
    So a token endpoint that is slower than a poke's timeout still yields a token eventually.
    """

    def __init__(
        self, fetch: Callable[[bool], Awaitable[CachedToken[Value]]], *, now: Callable[[], float], name: str
    ) -> None:
        """Start with no token.

        Args:
            fetch: called with True where the target refused the last token.
            now: a monotonic clock in seconds.
            name: the fetching task's name.
        """
        self._fetch = fetch
        self._now = now
        self._name = name
        self._value: Value | None = None
        self._renew_at = -inf
        self._expires_at = -inf
        self._retry_at = -inf
        self._refreshed_at = -inf
        self._error: Exception | None = None
        self._fetching: asyncio.Task[None] | None = None

    def cached_fresh(self) -> Value | None:
        """The token that `get` would return without a fetch, or None.

        While a renewal runs or has just failed, the old token counts until it expires.
        """
        if self._value is None:
            return None
        now = self._now()
        renewing = self._fetching is not None or now < self._retry_at
        return self._value if now < self._renew_at or (renewing and now < self._expires_at) else None

    async def get(self, refused: Value | None = None) -> Value:
        """A valid token, fetched if necessary.

        `refused` is a token that the target did not accept; it is replaced at most once in
        REFRESH_INTERVAL.

        Raises:
            ConnectionUnavailable: no token is available now.
            ValueError: the token cannot be requested as configured.
        """
        value = self.cached_fresh()
        if value is not None and value is not refused:
            return value
        if self._fetching is None:
            now = self._now()
            if value is not None and now - self._refreshed_at < REFRESH_INTERVAL:
                return value  # the newest there is, though it was refused
            if now < self._retry_at:
                raise _copy(self._error)
            if value is not None:
                self._refreshed_at = now
            self._fetching = asyncio.create_task(self._renew(value is not None), name=self._name)
        await asyncio.shield(self._fetching)
        if self._error is not None:
            raise _copy(self._error)
        if self._value is None:
            raise ConnectionUnavailable("the daemon is shutting down")
        return self._value

    async def aclose(self) -> None:
        """Cancels a running fetch."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _renew(self, refresh: bool) -> None:
        try:
            token = await self._fetch(refresh)
        except (ConnectionUnavailable, ValueError) as error:
            self._error, self._retry_at = error, self._now() + RETRY_PAUSE
        else:
            now = self._now()
            self._value, self._error = token.value, None
            self._renew_at, self._expires_at = now + token.renew_after, now + token.lifetime
        finally:
            self._fetching = None


def _copy(error: Exception | None) -> Exception:
    return ConnectionUnavailable() if error is None else copy_error(error)
