"""`GET /v1/events`: outcomes as Server-Sent Events, in the order in which they were stored.

What is sent is read from the store page by page, so that a reader costs the same memory whether it keeps up or comes back after a week.
"""

from collections.abc import Sequence

import anyio
from aiohttp import hdrs, web

from waitd.api.authentication import visible_namespace
from waitd.api.follow.event_ids import EventIds, OpaqueEventIds, PlainEventIds
from waitd.api.follow.feed import EventFeed, Reader
from waitd.api.problems import refusal
from waitd.api.services import Services, refuse_while_draining
from waitd.core.errors import InvalidInput, NotFound, Unavailable
from waitd.ports import ApiStore, StoredEvent

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
#: How many outcomes are read at a time; each may hold 64 KiB.
PAGE = 100
#: When a reader whose stream ended comes back, in milliseconds.
RETRY = 1000

_COMMENT = b":\n\n"


class EventHandlers:
    """The handler of `GET /v1/events`."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._feed = services.feed
        self._health = services.health
        self._plain = PlainEventIds()
        self._sealed = OpaqueEventIds(services.store.event_secret)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """200 and no end: what ends after this call, or with Last-Event-ID after that one; 410 where that is not known any more."""
        refuse_while_draining(self._health)
        namespace = visible_namespace(request)
        numbering = self._plain if namespace is None else self._sealed
        position = await self._position(request, numbering)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: EVENT_STREAM, hdrs.CACHE_CONTROL: "no-store"}
        )
        if request.method == "HEAD":
            return response
        with self._feed.reader(position) as reader:
            await response.prepare(request)
            stream = _Stream(request, response, reader, self._feed, numbering)
            await stream.send(await self._greeting(position, numbering))
            await _follow(stream, self._store, namespace)
        return response

    async def _position(self, request: web.Request, numbering: EventIds) -> int:
        given = request.headers.getall(LAST_EVENT_ID, ())
        if len(given) > 1:
            raise InvalidInput.at("", f"the {LAST_EVENT_ID} header is given more than once")
        if not given:
            return self._store.finished_seq
        position = numbering.meant(given[0])
        if position is None:
            raise _gone("that is no id of an event")
        try:
            await self._store.check_resumable(position)
        except NotFound:
            raise _gone(f"there is no event {given[0]}, or not all after it are kept any more") from None
        return position

    async def _greeting(self, position: int, numbering: EventIds) -> bytes:
        """When to come back, and as whom: a reader whose stream breaks before its first outcome misses nothing either."""
        try:
            await self._store.check_resumable(position)
        except (NotFound, Unavailable):  # pruned, and nothing has come since
            return b"retry: %d\n\n" % RETRY
        return b"retry: %d\nid: %d\n\n" % (RETRY, numbering.shown(position))


def _gone(why: str) -> Exception:
    return refusal("events-gone", f"{why}; follow anew, without {LAST_EVENT_ID}")


class _Stream:
    """What is sent to one reader. `ended`: nothing more will be."""

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reader: Reader,
        feed: EventFeed,
        numbering: EventIds,
    ) -> None:
        self.reader = reader
        self.numbering = numbering
        self._request = request
        self._response = response
        self._feed = feed
        self._cut = False
        self._last_sent = 0.0

    @property
    def ended(self) -> bool:
        return self._cut or self._feed.draining

    async def send(self, data: bytes) -> None:
        """Sends `data`, unless the reader has gone, or leaves it unread for so long that it is cut off."""
        with anyio.move_on_after(self._feed.heartbeat) as scope:
            self.reader.sending = scope
            try:
                await self._response.write(data)
            except ConnectionError:
                self._cut = True
            finally:
                self.reader.sending = None
        self._last_sent = anyio.current_time()
        if scope.cancelled_caught:
            self._cut = True
            if self._request.transport is not None:
                self._request.transport.abort()

    async def wait_for_news(self) -> None:
        """Returns when there may be more to send; where that takes long, the reader gets a comment to know the stream by."""
        with anyio.CancelScope(deadline=self._last_sent + self._feed.heartbeat) as quiet:
            await self.reader.news.wait()
        if quiet.cancelled_caught:
            await self.send(_COMMENT)


async def _follow(stream: _Stream, store: ApiStore, namespace: str | None) -> None:
    """Sends outcomes until the reader goes away, falls behind or has missed one, or the daemon drains."""
    reader = stream.reader
    while not stream.ended and not reader.is_behind(store.finished_seq):
        reader.news.clear()
        try:
            page = await store.events_after(reader.position, namespace, PAGE)
        except (NotFound, Unavailable):  # the reader is told why when it comes back
            return
        if page:
            reader.position = page[-1].seq
            if encoded := _encoded(page, stream.numbering):
                await stream.send(encoded)
        else:
            reader.live = True
            await stream.wait_for_news()


def _encoded(page: Sequence[StoredEvent], numbering: EventIds) -> bytes:
    # An event is one line of JSON, which is all that the format asks for.
    return b"".join(
        b"id: %d\ndata: %b\n\n" % (numbering.shown(seq), event) for seq, event in page if event is not None
    )
