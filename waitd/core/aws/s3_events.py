"""Parses S3 event notifications.

It understands S3's own format (MinIO's webhooks use it, too), EventBridge's format, and both of
them wrapped by SNS. A notification only makes waits poke early, so unknown formats are ignored.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

#: Prefixes of the event names after which a key may exist that did not exist before.
_CREATED = ("ObjectCreated:", "ObjectRestore:Completed", "Replication:")
_CREATED_ON_EVENTBRIDGE = frozenset({"Object Created", "Object Restore Completed"})


class CreatedObject(NamedTuple):
    """A key that exists now."""

    bucket: str
    key: str


def created_objects(event: Any) -> Iterator[CreatedObject]:
    """The objects that an event (decoded JSON) reports as created; none if it is not understood."""
    if not isinstance(event, dict):
        return
    records = event.get("Records")
    if isinstance(records, list):
        for record in records:
            yield from _from_record(record)
    elif event.get("source") == "aws.s3":
        yield from _from_eventbridge(event)
    elif event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        yield from _from_sns(event["Message"])


def _from_sns(text: str) -> Iterator[CreatedObject]:
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return
    # One level only: S3 never wraps a notification twice.
    if isinstance(inner, dict) and inner.get("Type") != "Notification":
        yield from created_objects(inner)


def _from_record(record: Any) -> Iterator[CreatedObject]:
    """A record in S3's own format, whose keys are form-encoded."""
    if isinstance(record, dict) and str(record.get("eventName", "")).removeprefix("s3:").startswith(_CREATED):
        for item in _object(record.get("s3")):
            yield item._replace(key=unquote_plus(item.key))


def _from_eventbridge(event: dict[str, Any]) -> Iterator[CreatedObject]:
    if event.get("detail-type") in _CREATED_ON_EVENTBRIDGE:
        yield from _object(event.get("detail"))


def _object(fields: Any) -> Iterator[CreatedObject]:
    """The object that `bucket` and `object` of these fields name, if they name one."""
    if not isinstance(fields, dict):
        return
    bucket, item = fields.get("bucket"), fields.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if isinstance(name, str) and isinstance(key, str) and name and key:
        yield CreatedObject(name, key)
