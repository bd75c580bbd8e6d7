"""A response whose head has arrived, read from a connection of this package."""

import asyncio
from collections.abc import Callable
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Protocol

from aiohttp.helpers import HeadersMixin
from multidict import CIMultiDict, CIMultiDictProxy

#: With more unread bytes of a body than this, the connection stops reading.
HIGH_WATER = 256 * 1024
_NAME = itemgetter(0)


class BodySource(Protocol):
    """What a response needs of its connection while the body is arriving."""

    def resume_reading(self) -> None:
        """Reads on after unread data has been taken."""

    def close(self) -> None:
        """Closes the connection."""


class Http1Response(HeadersMixin):
    """A response with a complete head; its body is read with `readany`.

    It has the part of `aiohttp.ClientResponse` that waitd uses.
    """

    #: Whether the body has arrived completely.
    complete = False
    #: How many bytes of the body `readany` has returned, and how many have not been taken.
    returned = unread = 0
    #: How many bytes have arrived in all, interim answers and framing included.
    received = 0
    _marks: tuple[bool, bytes | None, bool] | None = None
    _error: Exception | None = None
    _more: "asyncio.Future[None] | None" = None

    def __init__(
        self, method: str, status: int, fields: list[tuple[bytes, bytes]], connection: BodySource
    ) -> None:
        self.method = method
        self.status = status
        self._fields = fields
        self._chunks: list[bytes] = []
        self._connection: BodySource | None = connection

    @cached_property
    def headers(self) -> CIMultiDictProxy[str]:
        """The header fields, decoded as aiohttp decodes them."""
        fields = CIMultiDict(
            (name.decode("ascii", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in self._fields
        )
        return CIMultiDictProxy(fields)

    @property
    def _headers(self) -> CIMultiDictProxy[str]:  # type: ignore[override]  # decoded at its first use
        """What aiohttp's HeadersMixin reads."""
        return self.headers

    @property
    def content(self) -> "Http1Response":
        """The body's reader, under the name that aiohttp gives it."""
        return self

    def at_eof(self) -> bool:
        """Whether the whole body has been read."""
        return self.complete and not self._chunks

    async def readany(self) -> bytes:
        """Waits for a part of the body; returns b"" at its end.

        Raises:
            aiohttp.ClientPayloadError: the body ended too early, or the answer is too large.
            InvalidHttp: the body is malformed.
        """
        while not self._chunks and not self.complete:
            if self._error is not None:
                # A new exception each time: a stored one would keep its traceback, a reference
                # cycle.
                raise type(self._error)(*self._error.args)
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        chunk = self.take()
        self.returned += len(chunk)
        return chunk

    def take(self) -> bytes:
        """Returns the part of the body that has arrived, and removes it from the response."""
        chunks, self._chunks, self.unread = self._chunks, [], 0
        if self._connection is not None:
            self._connection.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def feed(self, chunk: bytes) -> bool:
        """Adds a part of the body; False when the connection should stop reading."""
        self._chunks.append(chunk)
        self.unread += len(chunk)
        return self.unread <= HIGH_WATER

    def wake_reader(self) -> None:
        """Wakes `readany`."""
        if self._more is not None:
            if not self._more.done():
                self._more.set_result(None)
            self._more = None

    def finish(self, error: Exception | None = None) -> None:
        """Marks the body as complete, or as broken by `error`."""
        if error is None:
            self.complete = True
        else:
            self._error = error
        self._connection = None
        if self._more is not None:
            self.wake_reader()

    def field(self, name: bytes) -> bytes | None:
        """Returns the first header field of a lower-case name without decoding the others."""
        length = len(name)
        for each, value in self._fields:
            if len(each) == length and each.lower() == name:
                return value
        return None

    @property
    def encoded(self) -> bool:
        """Whether the body has a Content-Encoding."""
        return (self._marks or self._find_marks())[0]

    @property
    def etag(self) -> str | None:
        """The ETag header."""
        value = (self._marks or self._find_marks())[1]
        return None if value is None else value.decode("latin-1")

    @property
    def asks_to_wait(self) -> bool:
        """Whether there is a Retry-After header."""
        return (self._marks or self._find_marks())[2]

    def _find_marks(self) -> tuple[bool, bytes | None, bool]:
        """Finds all at once: nearly every poke asks for all, and most answers have none."""
        encoded, etag, waits = _mark_positions(tuple(map(_NAME, self._fields)))
        self._marks = encoded, None if etag is None else self._fields[etag][1], waits
        return self._marks

    def lacks_length(self) -> bool:
        """Whether the body ends where the connection ends."""
        names = {name.lower() for name, _ in self._fields}
        return not names & {b"content-length", b"transfer-encoding"}

    @property
    def closed(self) -> bool:
        """Whether the response has released its connection."""
        return self._connection is None

    def close(self) -> None:
        """Closes the connection unless the body is complete."""
        if self._connection is not None:
            self._connection.close()


# A hostile head may have 64 KiB of names, so few are kept.
@lru_cache(maxsize=128)
def _mark_positions(names: tuple[bytes, ...]) -> tuple[bool, int | None, bool]:
    """What `_find_marks` looks for in a head with these names; for the ETag, its position.

    The heads of a server have the same names each time, so this is seldom called.
    """
    lower = [name.lower() for name in names]
    etag = lower.index(b"etag") if b"etag" in lower else None
    return b"content-encoding" in lower, etag, b"retry-after" in lower


#: Called once: with the response when its head has arrived, or with the error that prevented it.
OnResponse = Callable[[Http1Response | Exception], None]
