"""S3 event notifications in each of their formats."""

import json
from typing import Any

import pytest

from waitd.core.aws.s3_events import CreatedObject, created_objects


def record(event: str = "ObjectCreated:Put", key: str = "orders/1.parquet") -> dict[str, Any]:
    """As in AWS's documentation of the event message structure, cut down."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {
            "bucket": {"name": "landing", "arn": "arn:aws:s3:::landing"},
            "object": {"key": key, "size": 5},
        },
    }


OWN = {"Records": [record()]}
MINIO = {
    "EventName": "s3:ObjectCreated:Put",
    "Key": "landing/orders/1.parquet",
    "Records": [record("s3:ObjectCreated:Put")],
}
EVENTBRIDGE = {
    "version": "0",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "detail": {"version": "0", "bucket": {"name": "landing"}, "object": {"key": "orders/1.parquet"}},
}
BY_SNS = {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": json.dumps(OWN)}
CREATED = [CreatedObject("landing", "orders/1.parquet")]


@pytest.mark.parametrize("event", [OWN, MINIO, EVENTBRIDGE, BY_SNS])
def test_each_format_names_its_key(event: dict[str, Any]) -> None:
    assert list(created_objects(event)) == CREATED


def test_keys_in_records_are_form_encoded_and_keys_of_eventbridge_are_plain() -> None:
    assert list(created_objects({"Records": [record(key="a+b%2Bc/%C3%A4")]})) == [
        CreatedObject("landing", "a b+c/ä")
    ]
    plain = {**EVENTBRIDGE, "detail": {"bucket": {"name": "landing"}, "object": {"key": "a+b"}}}
    assert list(created_objects(plain)) == [CreatedObject("landing", "a+b")]


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "landing"},
        {"Records": [record("ObjectRemoved:Delete")]},
        {"Records": [None, 1, {}, {"eventName": "ObjectCreated:Put"}, record(key="")]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": "landing", "object": []}}]},
        {**EVENTBRIDGE, "detail-type": "Object Deleted"},
        {**EVENTBRIDGE, "detail": None},
        {"Type": "Notification", "Message": "no JSON"},
        {"Type": "Notification", "Message": json.dumps(BY_SNS)},
    ],
)
def test_other_events_are_ignored(event: Any) -> None:
    assert list(created_objects(event)) == []
