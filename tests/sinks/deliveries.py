"""Deliveries as the tests make them, and the errors in their receipts."""

import json
from uuid import uuid4

from waitd.core.waits.delivery import DeliveryFailed, DeliveryId, Receipt
from waitd.core.waits.wait import WaitId
from waitd.ports import OutboxItem

CONTENT_TYPE = "application/cloudevents+json"


def make_item(number: int = 0, *, size: int = 0) -> OutboxItem:
    """A delivery with a unique event of about `size` bytes."""
    wait_id = f"wait-{number}-{uuid4()}"
    event = {
        "specversion": "1.0",
        "id": wait_id,
        "source": "/waitd",
        "type": "waitd.wait.success",
        "subject": wait_id,
        "time": "2026-01-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"wait_id": wait_id, "payload": "grüße " + "x" * size},
    }
    content = json.dumps(event, ensure_ascii=False).encode()
    return OutboxItem(DeliveryId(str(uuid4())), WaitId(wait_id), "default", {}, content, 1, 0.0)


def failure(receipt: Receipt) -> str:
    """The error of an attempt that must have failed."""
    assert isinstance(receipt, DeliveryFailed), receipt
    return receipt.error
