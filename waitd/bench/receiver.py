"""A receiver of callbacks that records what arrives about each wait.

It verifies signatures and notices an event whose bytes change between attempts. It can refuse first
attempts, so that the daemon has to repeat them.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import orjson
from aiohttp import web

#: The largest age of a signature, in seconds, as Standard Webhooks recommends.
TOLERANCE = 300


@dataclass(slots=True)
class ReceivedCallbacks:
    """What arrived about one wait.

    Attributes:
        first_at: the Unix second of the first accepted attempt.
        accepted: attempts answered 2xx; more than one is a repeated delivery.
        refused: attempts answered 500 on purpose.
        badly_signed: attempts with an invalid signature.
        digests: SHA-256 of each distinct body; more than one means that the event changed.
        event: the last accepted event, or None.
    """

    accepted: int = 0
    refused: int = 0
    badly_signed: int = 0
    digests: set[bytes] = field(default_factory=set)
    event: Mapping[str, Any] | None = None
    first_at: float | None = None


def verify_signature(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a request has a valid Standard Webhooks signature of the last five minutes.

    Args:
        secret: `whsec_` and the key in base64.
        headers: the request's; names are lowercase unless the mapping ignores case.
        body: the raw body.
        now: Unix seconds.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    return any(
        hmac.compare_digest(expected, s.encode()) for s in headers.get("webhook-signature", "").split(" ")
    )


class Receiver:
    """An HTTP server for callbacks; an async context manager."""

    def __init__(
        self,
        secret: str | None,
        *,
        refuse_share: float = 0.0,
        refuse_times: int = 1,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
    ) -> None:
        """Prepares the server.

        Args:
            secret: verifies signatures; None: signatures are ignored.
            refuse_share: the share of waits, 0 to 1, whose first attempts are refused.
            refuse_times: the number of attempts to refuse.
            clock: returns Unix seconds.
            host: the address to listen on.
        """
        self.callbacks: dict[str, ReceivedCallbacks] = {}
        #: Requests that are not CloudEvents.
        self.malformed = 0
        self._secret = secret
        self._refuse_below = refuse_share * 2**32
        self._refuse_times = refuse_times
        self._clock = clock
        self._host = host
        app = web.Application()
        app.router.add_post("/callback", self._receive)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The URL to send events to."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/callback"

    @property
    def delivered(self) -> int:
        """The number of waits with an accepted callback."""
        return sum(callbacks.accepted > 0 for callbacks in self.callbacks.values())

    def lacks(self, wait_ids: Iterable[str]) -> bool:
        """Whether one of the waits has no accepted callback."""
        received = self.callbacks
        return any(wait_id not in received or not received[wait_id].accepted for wait_id in wait_ids)

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = orjson.loads(body)
            wait_id = str(event["id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.malformed += 1
            return web.Response(status=400, text="the body is not a CloudEvent")
        callbacks = self.callbacks.setdefault(wait_id, ReceivedCallbacks())
        callbacks.digests.add(hashlib.sha256(body).digest())
        if self._secret is not None and not verify_signature(
            self._secret, request.headers, body, self._clock()
        ):
            callbacks.badly_signed += 1
            return web.Response(status=401, text="the signature is invalid")
        if callbacks.refused < self._refuse_times and crc32(wait_id.encode()) < self._refuse_below:
            callbacks.refused += 1
            return web.Response(status=500, text="refused on purpose; try again")
        callbacks.accepted += 1
        callbacks.event = event
        callbacks.first_at = callbacks.first_at or self._clock()
        return web.Response(status=204)
