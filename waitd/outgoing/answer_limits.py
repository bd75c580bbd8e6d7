"""What an answer may have besides its body, for connections of aiohttp sessions.

aiohttp bounds one header line and the number of headers of one head. It bounds neither the number
of interim answers, nor chunk extensions, trailers and blank lines; and it keeps what arrives on an
idle connection.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from aiohttp import ClientOSError, ServerDisconnectedError, StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import _EXC_SENTINEL
from aiohttp.http_exceptions import HttpProcessingError

from waitd.core.http.headers import parse_keep_alive
from waitd.outgoing.errors import (
    AnswerTooLarge,
    ClosedWhileIdle,
    HeadTooLarge,
    Http2Only,
    InvalidHttp,
    is_http2,
)

#: The head of an answer, together with those of its interim (1xx) answers, has at most this many
#: bytes,
MAX_HEAD = 64 * 1024
#: this many header fields in each head (aiohttp's limit),
MAX_FIELDS = 128
#: and this many interim answers.
MAX_INTERIM = 16
#: An answer has at most this many bytes besides twice its body. That allows any head and 13,000
#: chunks of one byte, or any number of chunks that are larger than their framing.
MAX_OVERHEAD = 128 * 1024
#: For sessions: how many bytes of a body aiohttp reads ahead, and with 2,048 chunks it pauses.
READ_AHEAD = 32 * 1024
#: A head is parsed in pieces of this size: one of 4 KiB has up to 240 interim answers, which take
#: aiohttp about 2 ms.
_PIECE = 4 * 1024
_T = TypeVar("_T")
_CLOSED = (ServerDisconnectedError, ClientOSError)


def bounded_connector(**options: Any) -> TCPConnector:
    """Returns a session's connector that bounds all of an answer but its body.

    `options` are those of `aiohttp.TCPConnector`. Call it in the running loop.
    """
    connector = TCPConnector(**options)
    protocol: Any = partial(BoundedResponseHandler, loop=asyncio.get_running_loop())
    connector._factory = protocol  # noqa: SLF001 - aiohttp has no public option for it
    return connector


async def repeat_if_closed(
    send: Callable[[], Awaitable[_T]], on_repeat: Callable[[], object] = lambda: None
) -> _T:
    """Sends a request, again whenever it meets a connection that the server closed while idle.

    It ends: such a connection is not used again, and a new one is not idle. Only for requests that
    may be sent twice: the server may have read the first. `on_repeat` is called before each repeat.
    """
    while True:
        try:
            return await send()
        except ClosedWhileIdle:
            on_repeat()


def exceeds_overhead(received: int, body: int) -> bool:
    """Whether an answer has too many bytes: `received` in all, `body` of them its body."""
    return received - 2 * body > MAX_OVERHEAD


class BoundedResponseHandler(ResponseHandler):
    """aiohttp's protocol of a client connection, within the limits above."""

    _received = _interim = 0
    _body: StreamReader | None = None
    #: For how many seconds the server keeps the connection idle, and when that ends.
    _keep_alive = _idle_until = math.inf
    _reused = False

    def set_response_params(self, **params: Any) -> None:
        """Prepares for the answer to the next request."""
        self._received = self._interim = 0
        self._body = None
        self._idle_until = math.inf
        super().set_response_params(**params)

    def start_idling(self) -> None:
        """Starts to count the seconds for which the server keeps the connection."""
        self._reused = True
        self._idle_until = self._loop.time() + self._keep_alive

    def is_connected(self) -> bool:
        """Whether the connection can be used: it is open, and the server will not close it soon."""
        return super().is_connected() and self._loop.time() < self._idle_until

    def data_received(self, data: bytes) -> None:
        """Parses received data until the answer exceeds a limit."""
        if data and self._body is not None and self._body.is_eof():
            self._close()  # aiohttp would take this data for the answer to the next request
            return
        if self._received == 0 and is_http2(data):
            self.set_exception(Http2Only())
            self._close()
            return
        rest = data
        while rest and self._awaits_head():
            piece = rest[: min(_PIECE, MAX_HEAD - self._received)]
            rest = rest[len(piece) :]
            self._received += len(piece)
            super().data_received(piece)
            if self.exception() is not None:
                return
            if self._awaits_head() and (self._received >= MAX_HEAD or self._interim > MAX_INTERIM):
                self._refuse()
                return
        if rest or not data:  # without data, aiohttp continues with what it has
            self._received += len(rest)
            super().data_received(rest)
        # While reading is paused, a part of what was received is not parsed yet.
        if self._body is None or self._reading_paused:
            return
        if exceeds_overhead(self._received, self._body.total_bytes):
            self._refuse()

    def _awaits_head(self) -> bool:
        return self._body is None

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Takes a head from the parser."""
        message, body = data
        if self._body is not None:
            self.force_close()  # a second answer belongs to no request
            return
        if 100 <= message.code < 200 and message.code != 101:
            self._interim += 1
        elif self._interim <= MAX_INTERIM:
            self._body = body
            self._keep_alive = parse_keep_alive(message.headers.get("Keep-Alive", ""))
        if self._interim <= MAX_INTERIM:
            super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _EXC_SENTINEL) -> None:
        """Fails the answer. aiohttp forgets the body when its trailer is malformed."""
        if self._reused and not self._received and isinstance(exc, _CLOSED):
            exc = ClosedWhileIdle()
        super().set_exception(exc, exc_cause)
        body = self._body
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(InvalidHttp("the body is malformed"))

    def _refuse(self) -> None:
        if self._body is None:
            self.set_exception(HeadTooLarge("the head is too large"))
        elif not self._body.is_eof():
            self._body.set_exception(AnswerTooLarge("the answer has too many bytes besides its body"))
        self._close()

    def _close(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()
