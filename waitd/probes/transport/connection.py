"""One kept-alive HTTP/1.1 connection: sends a request and parses the response.

The parser is llhttp (`httptools`), the one that aiohttp uses. The connection itself comes from
aiohttp's connector; `pool` opens connections and reuses them.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import aiohttp
import httptools
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from waitd.core.http.headers import parse_keep_alive
from waitd.core.local_trouble import local_trouble
from waitd.outgoing import AnswerTooLarge, HeadTooLarge, Http2Only, InvalidHttp, ProxyFailed, is_http2
from waitd.outgoing.answer_limits import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, exceeds_overhead
from waitd.outgoing.errors import PROXY_REFUSES, describe_refusing_proxy
from waitd.probes.transport.errors import connection_error, parse_error
from waitd.probes.transport.response import Http1Response, OnResponse
from waitd.probes.transport.turns import WriteCoalescer

#: The limits are checked after this many bytes. At worst they are 5,000 chunks of one byte, which
#: take 2 ms.
_PIECE = 32 * 1024
#: Up to this many bytes are parsed at once, whatever else this turn of the event loop parses. At
#: worst they take 0.3 ms.
_SMALL = 4 * 1024


class ConnectionOwner(Protocol):
    """What a connection calls when its state changes: the pool's route.

    Attributes:
        proxy_name: the proxy that the connection leads through; "" if it leads through none.
    """

    proxy_name: str

    def add_idle(self, connection: "Http1Connection") -> None:
        """The connection can send another request."""

    def remove(self, connection: "Http1Connection") -> None:
        """The connection is closing or closed; more than one call does no harm."""

    def on_keep_alive(self) -> None:
        """The server said for how long it keeps this connection."""


class Http1Connection(asyncio.Protocol):
    """A connection's protocol. aiohttp's own still learns when the connection is lost.

    Attributes:
        idle_since: when the last response was complete, in the loop's time.
        keep_alive: seconds for which the server keeps it idle; inf if the server did not say.
        lost: whether no other request may be sent on it.
    """

    __slots__ = ("_coalescer", "_connection", "_fields", "_handler", "_has_head", "_interim", "_interims", "_method", "_on_idle", "_on_response", "_owner", "_parser", "_paused", "_received", "_response", "_rest", "_transport", "_written", "idle_since", "keep_alive", "lost")  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        owner: ConnectionOwner,
        coalescer: WriteCoalescer,
    ) -> None:
        """Takes over a connection for `owner`.

        Raises:
            aiohttp.ClientConnectionResetError: the connection is closed already.
        """
        handler = connection.protocol
        transport = None if handler is None else handler.transport
        if handler is None or transport is None:
            connection.close()
            early = None if handler is None else handler.exception()
            if isinstance(early, Http2Only):
                raise early
            raise aiohttp.ClientConnectionResetError("the server closed the connection before its first use")
        self._connection = connection
        self._handler: ResponseHandler = handler
        self._transport: asyncio.Transport = transport
        self._owner = owner
        self._coalescer = coalescer
        self.lost = self._paused = self._interim = self._has_head = self._written = False
        self._response: Http1Response | None = None
        self._on_response: OnResponse | None = None
        self.idle_since, self.keep_alive = 0.0, math.inf
        #: It is replaced at its first call, so that no later one looks for the header.
        self._on_idle: Callable[[Http1Connection], None] = Http1Connection._first_idle
        self._method = ""
        self._fields: list[tuple[bytes, bytes]] = []
        self._received = self._interims = 0
        #: What has arrived and is parsed in a later turn of the loop.
        self._rest = b""
        self._new_parser()
        transport.set_protocol(self)

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # the ones that aiohttp's client allows
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    # ------------------------------------------------------------ requests

    def send(self, method: str, request: bytes, on_response: OnResponse) -> None:
        """Sends a request on an idle connection.

        `on_response` is called in a later turn of the loop, unless `cancel` or `close` comes first.
        """
        self._method = method
        self._fields = []
        self._received = self._interims = 0
        self._has_head = False
        self._written = False
        self._on_response = on_response
        self._coalescer.add(self, request)

    @property
    def proxy(self) -> str | None:
        """The name of the proxy that it leads through; None if it leads through none."""
        return self._owner.proxy_name or None

    def cancel(self) -> None:
        """Cancels the request: `on_response` is not called, and the connection is closed."""
        self._on_response = None
        self.close()

    def write(self, request: bytes) -> None:
        """Writes a request, unless the connection was lost or the request was cancelled since."""
        if not self.lost:
            self._written = True
            self._transport.write(request)

    def close(self) -> None:
        """Closes the connection."""
        self.lost = True
        self._connection.close()

    def close_idle(self, *, abort: bool = False) -> None:
        """Closes the idle connection; see `IdleConnection`."""
        self._owner.remove(self)
        self.close()
        if abort:
            self._transport.abort()

    def resume_reading(self) -> None:
        """Reads on after unread data has been taken."""
        if self._paused and not self.lost:
            self._paused = False
            if not self._rest:
                self._transport.resume_reading()

    # ------------------------------------------------------------ asyncio.Protocol

    def data_received(self, data: bytes, most: int = _SMALL) -> None:
        """Parses received data; more than `most` bytes only as far as this turn has time."""
        if len(data) > most:
            self._receive_pieces(data)
            return
        if self._response is None and (self._on_response is None or not self._written):
            # No request has been written: this data would be taken for the next request's response.
            self._fail(Http2Only() if is_http2(data) else aiohttp.ServerDisconnectedError())
            return
        self._received += len(data)
        try:
            if self._received > MAX_HEAD and not self._has_head:
                data = self._parse_end_of_head(data)
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a 101: the head is valid, and nothing after it is read
        except (httptools.HttpParserError, HeadTooLarge) as error:
            self._fail(parse_error(error, data if self._response is None else b""))
            return
        response = self._response
        if response is not None:
            response.received = self._received
            on_response, self._on_response = self._on_response, None
            if response.complete:
                self._response = None
            if on_response is not None:
                on_response(response)
            else:
                response.wake_reader()
            if not response.complete and exceeds_overhead(
                self._received, response.returned + response.unread
            ):
                self._fail(AnswerTooLarge("the answer has too many bytes besides its body"))

    def _receive_pieces(self, data: bytes, *, whole: bool = False) -> None:
        """Parses data in pieces; unless `whole`, keeps for later what this turn has no time for."""
        for start in range(0, len(data), _PIECE):
            if self.lost:
                return
            if not whole and self._has_request() and not self._coalescer.parsing.has_time():
                self._rest = data[start:]
                if self._response is not None:
                    self._response.received += len(self._rest)
                self._transport.pause_reading()
                self._coalescer.parsing.add(self._receive_rest)
                return
            self.data_received(data[start : start + _PIECE], _PIECE)

    def _has_request(self) -> bool:
        """Whether data belongs to a response; if not, it must be refused at once."""
        return self._response is not None or (self._on_response is not None and self._written)

    def _receive_rest(self, *, whole: bool = False) -> None:
        rest, self._rest = self._rest, b""
        self._receive_pieces(rest, whole=whole)
        if not (self._rest or self._paused or self.lost):
            self._transport.resume_reading()

    def _parse_end_of_head(self, data: bytes) -> bytes:
        """Parses data until the head has its largest size; returns the rest.

        Raises:
            HeadTooLarge: it is larger.
            httptools.HttpParserError: the head is malformed.
        """
        end = len(data) - (self._received - MAX_HEAD)
        if end:
            self._parser.feed_data(data[:end])
        if not self._has_head:
            raise HeadTooLarge("the head is too large")
        return data[end:]

    def eof_received(self) -> None:
        """Marks the connection as lost; the transport closes it."""
        if self._rest:
            self._receive_rest(whole=True)
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the response or the request in progress."""
        if self._rest:
            self._receive_rest(whole=True)
        self.close()
        self._owner.remove(self)
        self._handler.connection_lost(exc)
        del self._parser  # it refers to this object: a reference cycle
        response = self._response
        if response is not None and not response.complete and exc is None and response.lacks_length():
            response.finish()
        elif exc is not None and local_trouble(exc):
            self._fail(exc)
        elif self._on_response is not None and response is None:
            self._fail(connection_error(exc))
        else:
            self._fail(aiohttp.ClientPayloadError("the connection ended before the body did"))

    def _fail(self, error: Exception) -> None:
        response, on_response = self._response, self._on_response
        self._response = self._on_response = None
        if response is not None and not response.complete:
            known = isinstance(error, InvalidHttp | AnswerTooLarge) or local_trouble(error)
            response.finish(error if known else aiohttp.ClientPayloadError(str(error)))
        self.close()
        if on_response is not None:
            on_response(error if response is None else response)

    # ------------------------------------------------------------ callbacks of the parser

    def on_message_begin(self) -> None:
        """A response begins. One that follows another in the same data belongs to no request."""
        if self._response is not None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of a chunked body's trailer."""
        if not self._has_head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        status = self._parser.get_status_code()
        if self._has_head:
            return
        if len(self._fields) > MAX_FIELDS:
            raise HeadTooLarge("the head has too many fields")
        if 100 <= status < 200 and status != 101:
            self._interim = True
            return
        if status == PROXY_REFUSES and self._owner.proxy_name:
            raise ProxyFailed(describe_refusing_proxy(self._owner.proxy_name, status))
        self._has_head = True
        self._response = Http1Response(self._method, status, self._fields, self)
        if self._method == "HEAD":  # llhttp would wait for a body of the announced length
            self._complete(self._response, reusable=self._parser.should_keep_alive())
            self._new_parser()

    def on_body(self, chunk: bytes) -> None:
        """A part of the body.

        After a complete response, as to a HEAD, the data cannot be trusted.
        """
        response = self._response
        if response is None or response.complete:
            self.close()
        elif not response.feed(chunk):
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The response is complete."""
        if self._interim:
            self._interim = False
            self._fields = []
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise HeadTooLarge("there are too many interim answers")
        elif self._response is not None and not self._response.complete:
            self._complete(self._response, reusable=self._parser.should_keep_alive())

    def _complete(self, response: Http1Response, *, reusable: bool) -> None:
        response.finish()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if reusable and response.status != 101:
            self._on_idle(self)
        else:
            self.close()

    def _first_idle(self) -> None:
        """The first response may say for how long the server keeps the connection."""
        self._on_idle = self._owner.add_idle
        if self._response is not None:
            self.keep_alive = parse_keep_alive(self._response.field(b"keep-alive") or b"")
        if self.keep_alive < math.inf:
            self._owner.on_keep_alive()
        self._owner.add_idle(self)
