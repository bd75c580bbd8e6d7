"""A webhook sink as the tests set it up, and the event that it posts."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from fakes import FakeConnections

from waitd.core.waits.delivery import DeliveryId, Receipt
from waitd.core.waits.wait import WaitId
from waitd.ports import OutboxItem
from waitd.sinks.webhook import WebhookSink

EVENT = json.dumps(
    {"specversion": "1.0", "id": "w1", "data": {"payload": "grüße"}}, ensure_ascii=False
).encode()
ITEM = OutboxItem(DeliveryId("d1"), WaitId("w1"), "default", {"kind": "webhook"}, EVENT, 1, 0.0)
#: The headers that only a connection may set.
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "*-token", "*-secret")


def webhook_sink(
    connections: FakeConnections, secret: str | None = None, now: Callable[[], float] = time.time
) -> WebhookSink:
    """A sink that is not entered yet."""
    return WebhookSink(connections, secret=secret, secret_headers=SECRET_HEADERS, now=now)


async def post(sink: WebhookSink, **params: Any) -> Receipt:
    async with asyncio.timeout(60):
        return await sink.deliver(sink.parse(params), ITEM)
