"""The receiver of callbacks: it counts events by wait, checks their signatures, and remembers whether their bytes ever changed.

Like a real receiver it may refuse at first, so that retries are seen; unlike one, it keeps account.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import orjson
from aiohttp import web

#: How far the clock of a signature may be off, in seconds, as Standard Webhooks recommends.
TOLERANCE = 300


@dataclass(slots=True)
class ReceivedCallbacks:
    """What came in about one wait.

    Attributes:
        first_at: when it was first accepted, a Unix second.
        accepted: attempts answered 2xx; more than one is a delivery that came twice.
        refused: attempts answered 500 on purpose.
        badly_signed: attempts whose signature did not verify.
        digests: SHA-256 of each different body; more than one means that the event changed between attempts.
        event: the event as it was accepted last; None before that.
    """

    accepted: int = 0
    refused: int = 0
    badly_signed: int = 0
    digests: set[bytes] = field(default_factory=set)
    event: Mapping[str, Any] | None = None
    first_at: float | None = None


def verify_signature(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether `body` is signed with `secret` (`whsec_…`) as Standard Webhooks says, not more than five minutes ago.

    Args:
        secret: `whsec_` and the key in base64.
        headers: the request's; `webhook-id`, `webhook-timestamp` and `webhook-signature` are looked up as written here.
        body: the body as it came.
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
    """An HTTP server for callbacks. An async context manager; `url` is where it listens."""

    def __init__(
        self,
        secret: str | None,
        *,
        refuse_share: float = 0.0,
        refuse_times: int = 1,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
    ) -> None:
        """Refuses the first `refuse_times` attempts about a share of the waits (0 to 1), chosen by their ids. Without a secret,
        signatures are not looked at.
        """
        self.heard: dict[str, ReceivedCallbacks] = {}
        self.strangers = 0
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
        """Where to send events."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/callback"

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = orjson.loads(body)
            wait_id = str(event["id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.strangers += 1
            return web.Response(status=400, text="that is no CloudEvent")
        heard = self.heard.setdefault(wait_id, ReceivedCallbacks())
        heard.digests.add(hashlib.sha256(body).digest())
        if self._secret is not None and not verify_signature(
            self._secret, request.headers, body, self._clock()
        ):
            heard.badly_signed += 1
            return web.Response(status=401, text="the signature does not verify")
        if heard.refused < self._refuse_times and crc32(wait_id.encode()) < self._refuse_below:
            heard.refused += 1
            return web.Response(status=500, text="not now")
        heard.accepted += 1
        heard.event = event
        heard.first_at = heard.first_at or self._clock()
        return web.Response(status=204)
