"""Lists: read from the store in small parts, and sent item by item within a budget of bytes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import orjson
from aiohttp import hdrs, web

from waitd import exact_json
from waitd.api import queries
from waitd.api.authentication import PRINCIPAL
from waitd.api.problems import classify_error
from waitd.api.server.heads import add_answer_headers
from waitd.api.server.loopback_guard import JSON
from waitd.api.server.seats import leave_seat
from waitd.api.server.throttle import Throttle
from waitd.api.server.turns import Turns
from waitd.core.auth.quotas import PAGE_BYTES, Resource
from waitd.ports import ListPart

#: How many items are read first, and about how many bytes of them from then on. The store stops
#: at so many bytes of rows, too, whatever the first ones were like: an item may have 200 KiB, or
#: four times as much with the deliveries of a wait.
FIRST_PART = 8
PART_BYTES = 512 * 1024
MAX_PART = 250
#: How much is sent at a time; an answer that is smaller has a Content-Length.
SENT_BYTES = 64 * 1024
#: How long a client may take to read a list, in seconds.
LIST_SECONDS = 60.0

Item = TypeVar("Item")


def next_part(items: int, size: int) -> int:
    """Returns how many items to read next, after `items` that had `size` bytes."""
    return max(1, min(MAX_PART, PART_BYTES * items // max(size, 1)))


@dataclass
class Page(Generic[Item]):
    """A page of a list; iterate over `encoded` first, then ask for its `token`.

    Attributes:
        find: reads up to a number of items after the item with the given key; None: from the start.
            It may return fewer as a `ListPart` that is cut.
        key: the key of an item, which the token of the next page holds.
        view: an item as the API shows it.
        before: the key that the previous page ended with.
        limit: the largest number of items.
        most_bytes: the page ends after the item that reaches this size.
    """

    find: Callable[[Any, int], Awaitable[Sequence[Item]]]
    key: Callable[[Item], Any]
    view: Callable[[Item], Any]
    before: Any
    limit: int
    most_bytes: int = PAGE_BYTES
    more: bool = False

    async def encoded(self) -> AsyncGenerator[bytes]:
        """Yields the items as JSON, as many as fit."""
        sent = size = 0
        part = FIRST_PART
        while True:
            # One item more than the page may have shows whether there is a next page.
            wanted = min(part, self.limit - sent + 1)
            items = await self.find(self.before, wanted)
            for item in items:
                if sent == self.limit or size >= self.most_bytes:
                    self.more = True
                    return
                text = exact_json.dumps(self.view(item))
                sent, size, self.before = sent + 1, size + len(text), self.key(item)
                yield text
            if len(items) < wanted and not (isinstance(items, ListPart) and items.cut):
                return
            part = next_part(sent, size)

    @property
    def token(self) -> str | None:
        """The token of the next page; None if this is the last one."""
        return queries.page_token(str(self.before)) if self.more else None


class Lists:
    """Sends lists, each within the shares of its caller."""

    def __init__(self, throttle: Throttle, page_bytes: Callable[[str], int]) -> None:
        """`page_bytes`: the size of a page that ends it, by the caller's namespace."""
        self._throttle = throttle
        self._page_bytes = page_bytes

    def page_bytes(self, request: web.Request) -> int:
        """Returns the size that ends a page of this caller."""
        return self._page_bytes(request[PRINCIPAL].namespace)

    async def send_page(self, request: web.Request, name: str, page: Page[Any]) -> web.StreamResponse:
        """Answers with a page: `{<name>: […], "next_page_token": …}`."""
        page.most_bytes = self.page_bytes(request)
        return await self.send(
            request,
            b'{"%b":[' % name.encode(),
            page.encoded(),
            lambda: b'],"next_page_token":%b}' % orjson.dumps(page.token),
        )

    async def send(
        self, request: web.Request, head: bytes, items: AsyncGenerator[bytes], end: Callable[[], bytes]
    ) -> web.StreamResponse:
        """Answers with `head`, the items with commas between them, and `end`.

        Raises:
            ProblemError: 429, the caller or its namespace reads too many lists.
        """
        leave_seat(request)
        with self._throttle.hold(Resource.READS, request[PRINCIPAL]):
            async with aclosing(items):
                return await StreamedAnswer(request, head).send(items, end)


class StreamedAnswer:
    """The answer to one request: it is streamed once it is larger than `SENT_BYTES`."""

    def __init__(
        self, request: web.Request, head: bytes = b"", *, content_type: str = JSON, separator: bytes = b","
    ) -> None:
        """`head` comes before the items, and `separator` between them."""
        self._request = request
        self._unsent = bytearray(head)
        self._separator = separator
        self._headers = {hdrs.CONTENT_TYPE: content_type}
        self._response = web.StreamResponse(headers=self._headers)
        add_answer_headers(self._response)

    async def send(
        self, items: AsyncGenerator[bytes], end: Callable[[], bytes] = bytes
    ) -> web.StreamResponse:
        """Sends the items; disconnects a client that does not take them, or if reading fails."""
        try:
            with anyio.fail_after(LIST_SECONDS):
                await self._add_each(items)
                self._unsent += end()
                if not self._response.prepared:
                    return web.Response(body=bytes(self._unsent), headers=self._headers)
                await self._flush()
        except ConnectionError:
            pass  # the client has disconnected
        except Exception as error:
            if not self._response.prepared:
                raise
            if not isinstance(error, TimeoutError):
                classify_error(error)  # logs it
            if self._request.transport is not None:
                self._request.transport.abort()
        return self._response

    async def _add_each(self, items: AsyncGenerator[bytes]) -> None:
        turns, separator = Turns(self._request[PRINCIPAL].namespace), b""
        async for item in items:
            self._unsent += separator + item
            separator = self._separator
            if len(self._unsent) >= SENT_BYTES:
                await self._flush()
            if turns.over():
                await turns.next_turn()

    async def _flush(self) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)
        if self._request.method != hdrs.METH_HEAD:
            await self._response.write(bytes(self._unsent))
        self._unsent.clear()
