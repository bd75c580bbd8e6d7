"""One kept-alive connection on which a request goes out and an answer comes in; the parser is llhttp (`httptools`), as in aiohttp.

It knows nothing of pools and URLs: `wire` hands it a connection that aiohttp's connector made, and gets it back when an answer is whole.
"""

import asyncio
from collections.abc import Callable
from functools import cached_property, partial

import aiohttp
import httptools
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import HeadersMixin
from multidict import CIMultiDict, CIMultiDictProxy

#: The largest head of an answer, in bytes; aiohttp allows 128 fields of 8 KiB.
MAX_HEAD = 64 * 1024
#: A body of which this much lies unread makes the connection stop reading, in bytes.
HIGH_WATER = 256 * 1024


class NotHttp(aiohttp.ClientError):
    """What came is no answer."""


class Http1Response(HeadersMixin):
    """An answer whose head is there; of `aiohttp.ClientResponse` the part that is needed. Its body comes by `readany`."""

    #: Whether the body is whole: what `readany` gives next is its end.
    whole = False
    #: How many bytes of the body are here and not taken.
    unread = 0
    _trouble: Exception | None = None
    _more: "asyncio.Future[None] | None" = None

    def __init__(
        self, method: str, status: int, fields: list[tuple[bytes, bytes]], exchange: "Http1Connection"
    ) -> None:
        self.method = method
        self.status = status
        self._fields = fields
        self._chunks: list[bytes] = []
        self._exchange: Http1Connection | None = exchange

    @cached_property
    def headers(self) -> CIMultiDictProxy[str]:
        """The fields, read as aiohttp reads them."""
        fields = CIMultiDict(
            (name.decode("ascii", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in self._fields
        )
        return CIMultiDictProxy(fields)

    @property
    def _headers(self) -> CIMultiDictProxy[str]:  # type: ignore[override]  # made when it is first asked for
        """What aiohttp's HeadersMixin reads."""
        return self.headers

    @property
    def content(self) -> "Http1Response":
        """Where the body is read from, as aiohttp's responses name it."""
        return self

    def at_eof(self) -> bool:
        """Whether all that there will be has been read."""
        return self.whole and not self._chunks

    async def readany(self) -> bytes:
        """What there is of the body, at least a byte; b"" at its end.

        Raises:
            aiohttp.ClientPayloadError: it ended too early.
            NotHttp: it is nonsense.
        """
        while not self._chunks and not self.whole:
            if self._trouble is not None:
                # A new one each time: one that is kept would keep its traceback, which leads back here.
                raise type(self._trouble)(*self._trouble.args)
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        return self.taken()

    def taken(self) -> bytes:
        """What there is of the body now."""
        chunks, self._chunks, self.unread = self._chunks, [], 0
        if self._exchange is not None:
            self._exchange.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def feed(self, chunk: bytes) -> bool:
        """Takes in a part of the body; False where enough of it lies unread."""
        self._chunks.append(chunk)
        self.unread += len(chunk)
        return self.unread <= HIGH_WATER

    def wake(self) -> None:
        """Tells who waits in `readany` that something came."""
        if self._more is not None:
            if not self._more.done():
                self._more.set_result(None)
            self._more = None

    def finish(self, trouble: Exception | None = None) -> None:
        """There is no more to come: the body is whole, or there was `trouble`."""
        if trouble is None:
            self.whole = True
        else:
            self._trouble = trouble
        self._exchange = None
        if self._more is not None:
            self.wake()

    def field(self, name: bytes) -> bytes | None:
        """The first field of that name, which is given in lower case, found without reading the others."""
        length = len(name)
        for each, value in self._fields:
            if len(each) == length and each.lower() == name:
                return value
        return None

    @property
    def etag(self) -> str | None:
        """Its ETag."""
        value = self.field(b"etag")
        return None if value is None else value.decode("latin-1")

    def lacks_length(self) -> bool:
        """Whether its end is where the connection's is."""
        names = {name.lower() for name, _ in self._fields}
        return not names & {b"content-length", b"transfer-encoding"}

    @property
    def closed(self) -> bool:
        """Whether the connection is given back, or closed."""
        return self._exchange is None

    def close(self) -> None:
        """Closes the connection unless the body was whole."""
        if self._exchange is not None:
            self._exchange.close()


#: What is told of a request, once: the head of its answer is there, or there was trouble.
OnResponse = Callable[[Http1Response | Exception], None]


class WriteCoalescer:
    """Requests that were made in one turn of the loop, and leave together at its end.

    A send wakes the other side's processor, and where that is this machine's other core, it costs more than all the rest of a poke: those
    that follow at once find it awake.
    """

    def __init__(self) -> None:
        """Call it in the loop."""
        #: The loop in which they leave.
        self.loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Http1Connection, bytes]] = []

    def add(self, exchange: "Http1Connection", request: bytes) -> None:
        """This one too."""
        if not self._waiting:
            self.loop.call_soon(self._leave)
        self._waiting.append((exchange, request))

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for exchange, request in waiting:
            exchange.send(request)


class Http1Connection(asyncio.Protocol):
    """The connection's protocol, in place of aiohttp's own, which is still told when the connection is lost.

    Attributes:
        idle_since: when the last answer was whole, in the loop's time.
        lost: no other request may be sent on it.
    """

    __slots__ = ("_connection", "_departures", "_fields", "_handler", "_head", "_interim", "_method", "_parser", "_paused", "_reply", "_seen", "_sent", "_spare", "_told", "_transport", "_waiter", "idle_since", "lost")  # fmt: skip

    def __init__(
        self, connection: Connection, spare: Callable[["Http1Connection"], None], departures: WriteCoalescer
    ) -> None:
        """Takes over a connection; `spare` is told each time it is free for another request.

        Raises:
            aiohttp.ClientConnectionResetError: it was closed as it was taken.
        """
        handler = connection.protocol
        transport = None if handler is None else handler.transport
        if handler is None or transport is None:
            connection.close()
            raise aiohttp.ClientConnectionResetError("the connection was closed as it was taken")
        self._connection = connection
        self._handler: ResponseHandler = handler
        self._transport: asyncio.Transport = transport
        self._spare = spare
        self._departures = departures
        self.lost = self._paused = self._interim = self._head = self._sent = False
        self._reply: Http1Response | None = None
        self._told: OnResponse | None = None
        self._waiter: asyncio.Future[Http1Response] | None = None
        self.idle_since = 0.0
        self._method = ""
        self._fields: list[tuple[bytes, bytes]] = []
        self._seen = 0
        self._new_parser()
        transport.set_protocol(self)

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # what aiohttp's own client puts up with
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    # ------------------------------------------------------------ asking

    def ask(self, method: str, request: bytes) -> "asyncio.Future[Http1Response]":
        """Sends a request; what comes of it. Whoever gives up must call `close`."""
        waiter = self._departures.loop.create_future()
        if self.lost:
            waiter.set_exception(aiohttp.ServerDisconnectedError())
        else:
            self.begin(method, request, partial(_settle, waiter))
            self._waiter = waiter
        return waiter

    def begin(self, method: str, request: bytes, told: OnResponse) -> None:
        """Sends a request on a usable connection. What comes of it is told in a later turn of the loop, unless it is given up before."""
        self._method = method
        self._fields = []
        self._seen = 0
        self._head = False
        self._sent = False
        self._told = told
        self._departures.add(self, request)

    def give_up(self) -> None:
        """Nobody is told any more; closes the connection."""
        self._told = None
        self.close()

    def send(self, request: bytes) -> None:
        """The request leaves, unless the connection was lost since, or whoever asked has given up."""
        if not self.lost and (self._waiter is None or not self._waiter.cancelled()):
            self._sent = True
            self._transport.write(request)

    def close(self) -> None:
        """Closes the connection."""
        self.lost = True
        self._connection.close()

    def resume_reading(self) -> None:
        """What was unread has been taken."""
        if self._paused and not self.lost:
            self._paused = False
            self._transport.resume_reading()

    # ------------------------------------------------------------ the protocol

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._reply is None and (self._told is None or not self._sent):
            # Nobody's request has left: what comes next could not be told from its answer.
            self._fail(aiohttp.ServerDisconnectedError())
            return
        if not self._head:
            self._seen += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a 101: the head stands, and nothing more is read
        except httptools.HttpParserError as error:
            self._fail(NotHttp(str(error)))
            return
        reply = self._reply
        if reply is not None:
            told, self._told, self._waiter = self._told, None, None
            if reply.whole:
                self._reply = None
            if told is not None:
                told(reply)
            else:
                reply.wake()
        elif self._seen > MAX_HEAD:
            self._fail(NotHttp("the head is too large"))

    def eof_received(self) -> None:
        """See asyncio.Protocol; the transport closes."""
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.close()
        self._handler.connection_lost(exc)
        del self._parser  # which knows this exchange; what leads to itself is garbage for long
        reply = self._reply
        if reply is not None and not reply.whole and exc is None and reply.lacks_length():
            reply.finish()
        elif self._told is not None and self._reply is None:
            self._fail(_lost(exc))
        else:
            self._fail(aiohttp.ClientPayloadError("the connection ended before the body did"))

    def _fail(self, trouble: Exception) -> None:
        reply, told = self._reply, self._told
        self._reply = self._told = self._waiter = None
        if reply is not None and not reply.whole:
            reply.finish(
                trouble if isinstance(trouble, NotHttp) else aiohttp.ClientPayloadError(str(trouble))
            )
        self.close()
        if told is not None:
            told(trouble if reply is None else reply)

    # ------------------------------------------------------------ the parser's calls

    def on_message_begin(self) -> None:
        """An answer begins. After one that is whole, nobody asked for it: the connection cannot be trusted any more."""
        if self._reply is not None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of a chunked body's trailer."""
        if not self._head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        status = self._parser.get_status_code()
        if self._head:
            return
        if 100 <= status < 200 and status != 101:
            self._interim = True
            return
        self._head = True
        self._reply = Http1Response(self._method, status, self._fields, self)
        if self._method == "HEAD":  # llhttp would wait for the body whose length the head names
            self._complete(self._reply, reusable=self._parser.should_keep_alive())
            self._new_parser()

    def on_body(self, chunk: bytes) -> None:
        """A part of the body. After an answer that is whole, as to a HEAD, nothing that comes can be trusted."""
        reply = self._reply
        if reply is None or reply.whole:
            self.close()
        elif not reply.feed(chunk):
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._interim:
            self._interim = False
            self._fields = []
            self._seen = 0
        elif self._reply is not None and not self._reply.whole:
            self._complete(self._reply, reusable=self._parser.should_keep_alive())

    def _complete(self, reply: Http1Response, *, reusable: bool) -> None:
        reply.finish()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if reusable and reply.status != 101:
            self._spare(self)
        else:
            self.close()


def _lost(exc: Exception | None) -> Exception:
    if exc is None:
        return aiohttp.ServerDisconnectedError()
    return (
        aiohttp.ClientOSError(*exc.args)
        if isinstance(exc, OSError)
        else aiohttp.ClientOSError(None, str(exc))
    )


def _settle(waiter: "asyncio.Future[Http1Response]", came: Http1Response | Exception) -> None:
    if waiter.done():
        return
    if isinstance(came, Exception):
        waiter.set_exception(came)
    else:
        waiter.set_result(came)
