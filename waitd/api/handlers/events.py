"""`GET /v1/events`: outcomes as Server-Sent Events, in the order in which they were stored.

Outcomes are read from the store page by page, so a reader takes the same memory whether it keeps up
or resumes after a week.
"""

from collections.abc import Sequence

import anyio
from aiohttp import hdrs, web

from waitd.api.authentication import AUTHORIZE_AGAIN, PRINCIPAL, log_refused
from waitd.api.dependencies import ApiDependencies, refuse_while_draining
from waitd.api.follow.event_ids import EventIds, OpaqueEventIds
from waitd.api.follow.feed import EventReader
from waitd.api.handlers.lists import FIRST_PART, next_part
from waitd.api.problems import refusal
from waitd.api.server.heads import add_answer_headers
from waitd.api.server.seats import leave_seat
from waitd.core.auth.quotas import Resource
from waitd.core.errors import AccessDenied, InvalidInput, NotFound, Unavailable
from waitd.ports import ApiStore, StoredEvent

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
#: How many outcomes are read at a time, at most.
PAGE_SIZE = 100
#: How soon a reader whose stream ended should reconnect, in milliseconds.
RETRY_MILLISECONDS = 1000

_COMMENT = b":\n\n"


class EventHandlers:
    """The handler of `GET /v1/events`."""

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._dependencies = dependencies
        self._plain_ids = EventIds()
        self._opaque_ids = OpaqueEventIds(dependencies.store.event_secret)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Streams the outcomes after this call or after Last-Event-ID; 410 if some are gone."""
        refuse_while_draining(self._dependencies.health)
        namespace = request[PRINCIPAL].visible_namespace
        ids = self._plain_ids if namespace is None else self._opaque_ids
        position = await self._position(request, ids)
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: EVENT_STREAM})
        add_answer_headers(response)
        if request.method == "HEAD":
            return response
        dependencies = self._dependencies
        leave_seat(request)
        with (
            dependencies.throttle.hold(Resource.EVENT_STREAMS, request[PRINCIPAL]),
            dependencies.feed.reader(position) as reader,
        ):
            await response.prepare(request)
            stream = _Stream(request, response, reader, dependencies, ids)
            await stream.send(await self._greeting(position, ids))
            await _follow(stream, dependencies.store, namespace)
        return response

    async def _position(self, request: web.Request, ids: EventIds) -> int:
        """Returns the number of the outcome that the stream starts after."""
        values = request.headers.getall(LAST_EVENT_ID, ())
        if len(values) > 1:
            raise InvalidInput.at("", f"the {LAST_EVENT_ID} header is given more than once")
        if not values:
            return self._dependencies.store.finished_seq
        position = ids.decode(values[0])
        if position is None:
            raise _gone("that is not the id of an event")
        try:
            await self._dependencies.store.check_resumable(position)
        except NotFound:
            raise _gone(
                f"there is no event {values[0]}, or not all events after it are still stored"
            ) from None
        return position

    async def _greeting(self, position: int, ids: EventIds) -> bytes:
        """Returns the start of a stream.

        It carries an id, so that a reader that is cut off before its first outcome can resume.
        """
        try:
            await self._dependencies.store.check_resumable(position)
        except (NotFound, Unavailable):  # the last outcome was pruned, and there is none after it
            return b"retry: %d\n\n" % RETRY_MILLISECONDS
        return b"retry: %d\nid: %d\n\n" % (RETRY_MILLISECONDS, ids.encode(position))


def _gone(reason: str) -> Exception:
    return refusal("events-gone", f"{reason}; start again without {LAST_EVENT_ID}")


class _Stream:
    """The stream of one reader; once it has `ended`, nothing more is sent."""

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reader: EventReader,
        dependencies: ApiDependencies,
        ids: EventIds,
    ) -> None:
        self.reader = reader
        self.ids = ids
        self._request = request
        self._response = response
        self._feed = dependencies.feed
        self._refusals = dependencies.refusals
        self._cut = False
        self._last_sent = 0.0
        self._authorized_at = anyio.current_time()

    @property
    def ended(self) -> bool:
        return self._cut or self._feed.draining

    async def send(self, data: bytes) -> None:
        """Sends `data`; disconnects a reader that takes longer than a heartbeat's interval."""
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

    async def may_go_on(self) -> bool:
        """Whether the reader may still read: its key or token is checked at each heartbeat.

        While it cannot be checked, the stream goes on.
        """
        if anyio.current_time() < self._authorized_at + self._feed.heartbeat:
            return True
        self._authorized_at = anyio.current_time()
        namespace = self._request[PRINCIPAL].visible_namespace
        try:
            principal = await self._request[AUTHORIZE_AGAIN](self._request)
        except AccessDenied as error:
            log_refused(self._request, error, self._refusals)
            return False
        except Unavailable:
            return True
        return principal.visible_namespace == namespace

    async def wait_for_news(self) -> None:
        """Waits until there may be more to send; sends a comment after each heartbeat."""
        with anyio.CancelScope(deadline=self._last_sent + self._feed.heartbeat) as quiet:
            await self.reader.news.wait()
        if quiet.cancelled_caught:
            await self.send(_COMMENT)


async def _follow(stream: _Stream, store: ApiStore, namespace: str | None) -> None:
    """Sends outcomes until the daemon drains, or the reader leaves, falls behind or is refused."""
    reader, limit = stream.reader, min(PAGE_SIZE, FIRST_PART)
    while not stream.ended and not reader.is_behind(store.finished_seq) and await stream.may_go_on():
        reader.news.clear()
        try:
            page = await store.events_after(reader.position, namespace, limit)
        except (NotFound, Unavailable):  # the reader gets the reason when it reconnects
            return
        if page:
            reader.position = page[-1].seq
            if encoded := _encode(page, stream.ids):
                await stream.send(encoded)
            limit = min(PAGE_SIZE, next_part(len(page), len(encoded)))
        else:
            reader.caught_up = True
            await stream.wait_for_news()


def _encode(page: Sequence[StoredEvent], ids: EventIds) -> bytes:
    # An event is one line of JSON, as the format requires.
    return b"".join(
        b"id: %d\ndata: %b\n\n" % (ids.encode(seq), event)
        for seq, event in page
        if event is not None  # another namespace's
    )
