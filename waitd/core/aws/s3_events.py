"""S3's event notifications, in the shapes in which they come: S3's own (MinIO's webhooks are the same), EventBridge's, and either of them
wrapped by SNS. What is made of them is only a hint, so what is not understood is passed over.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

#: Beginnings of the events after which there is a key that may not have been there before.
_MADE = ("ObjectCreated:", "ObjectRestore:Completed", "Replication:")
_MADE_ON_EVENTBRIDGE = frozenset({"Object Created", "Object Restore Completed"})


class CreatedObject(NamedTuple):
    """A key that is there now."""

    bucket: str
    key: str


def created_objects(event: Any) -> Iterator[CreatedObject]:
    """The keys that an event (decoded JSON) tells to have come."""
    if not isinstance(event, dict):
        return
    records = event.get("Records")
    if isinstance(records, list):
        for record in records:
            yield from _of_record(record)
    elif event.get("source") == "aws.s3":
        yield from _of_eventbridge(event)
    elif event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        yield from _of_text(event["Message"])


def _of_text(text: str) -> Iterator[CreatedObject]:
    try:
        inner = json.loads(text)
    except ValueError:
        return
    # Not through `created_objects`: a message wrapped again and again is none of S3's.
    if isinstance(inner, dict) and inner.get("Type") != "Notification":
        yield from created_objects(inner)


def _of_record(record: Any) -> Iterator[CreatedObject]:
    """A record of S3's own; its keys are encoded as in a form."""
    if not isinstance(record, dict) or not str(record.get("eventName", "")).removeprefix("s3:").startswith(
        _MADE
    ):
        return
    place = record.get("s3")
    if isinstance(place, dict):
        found = _named(place.get("bucket"), place.get("object"))
        if found is not None:
            yield found._replace(key=unquote_plus(found.key))


def _of_eventbridge(event: dict[str, Any]) -> Iterator[CreatedObject]:
    detail = event.get("detail")
    if event.get("detail-type") in _MADE_ON_EVENTBRIDGE and isinstance(detail, dict):
        found = _named(detail.get("bucket"), detail.get("object"))
        if found is not None:
            yield found


def _named(bucket: Any, item: Any) -> CreatedObject | None:
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    return (
        CreatedObject(name, key) if isinstance(name, str) and isinstance(key, str) and name and key else None
    )
