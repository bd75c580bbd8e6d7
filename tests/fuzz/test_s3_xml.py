"""Answers of S3 stores: each is parsed or refused, at a cost that its size bounds."""

import contextlib
from random import Random
from time import thread_time
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

import orjson
import pytest
from fuzzing import Fuzz, mutated

from waitd.core.aws.s3_events import created_objects
from waitd.core.waits.event import rfc3339
from waitd.probes.s3.xml import ListPage, find_element_text, object_from_head, parse_list_page

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
KEYS = ("a", "a b+c%20", "é\U0001f600", "&<>\"']]>", " ", "x" * 1024, "a/\u202eb", "../..")
#: The CPU that 8 MiB may take, in seconds: a tenth is meant; machines differ.
SECONDS = 5.0
LIST = (
    b"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    b"<IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><NextContinuationToken>t</NextContinuationToken>"
    b"<Contents><Key>a%20b</Key><Size>5</Size><LastModified>2026-11-21T02:41:00.000Z</LastModified><ETag>e</ETag>"
    b"</Contents></ListBucketResult>"
)  # fmt: skip
CORPUS = [
    LIST,
    b"<Error><Code>NoSuchKey</Code><Region>eu-west-1</Region></Error>",
    b"<!DOCTYPE a [<!ENTITY b 'cccccccc'><!ENTITY d '&b;&b;&b;&b;'>]><a>&d;</a>",
    b"<![CDATA[<a>]]><!--x--><?pi y?>&#0;&#x10ffff;&#xd800;&amp;&lt;",
    "<?xml version='1.0' encoding='UTF-16'?><Error><Code>é</Code></Error>".encode("utf-16"),
    b"<Size>99999999999999999999</Size><Size>-1</Size><Size>1_0</Size><LastModified>9999-99-99</LastModified>",
]


def parsed(body: bytes) -> ListPage | None:
    """Returns the page; None where it is refused as the client expects it."""
    with contextlib.suppress(LookupError, ValueError, ParseError):
        return parse_list_page(body)
    return None


def some_page(random: Random) -> tuple[bytes, ListPage | None]:
    """Returns a list as a store may write it, and what it says."""
    keys, prefix = random.choices(KEYS, k=random.randrange(4)), random.choice(("", "s3:"))
    name = f"xmlns{':s3' if prefix else ''}='{NAMESPACE}'" if prefix or random.random() < 0.7 else ""
    rows = "".join(
        f"<{prefix}Contents><{prefix}Size>{n}</{prefix}Size><{prefix}Key>{escape(key)}</{prefix}Key></{prefix}Contents>"
        for n, key in enumerate(keys)
    )
    text = f"<{prefix}ListBucketResult {name}>{rows}</{prefix}ListBucketResult>"
    encoding = random.choice(("utf-8", "utf-8-sig"))
    page = parsed(text.encode(encoding))
    assert page is not None, text
    assert [(each.key, each.size) for each in page.objects] == [(key, n) for n, key in enumerate(keys)]
    return text.encode(encoding), page


def test_every_list_is_parsed_or_refused(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        body, _ = some_page(random) if random.random() < 0.3 else (random.choice(CORPUS), None)
        for _ in range(random.randrange(4)):
            body = mutated(random, body, CORPUS)
        page = parsed(body)
        for each in page.objects if page is not None else ():
            assert orjson.dumps([each.key, each.size, each.etag, rfc3339(each.last_modified)]), body
        for name in ("Code", "Region"):
            assert len(find_element_text(body, name)) <= 64, body


def test_every_head_is_read(fuzz: Fuzz) -> None:
    values = ("", "0", "5", "-1", "٣", "²", "9" * 5000, "1e3", "\x80", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Foo 0000 99:99:99 +9999", "1, 1, 1", "()", "Mon, 01 Jan 0001 00:00:00 +2359", '"e"')  # fmt: skip
    for random in fuzz.rounds():
        headers = {name: random.choice(values) for name in ("ETag", "Last-Modified", "Content-Length") if random.random() < 0.9}  # fmt: skip
        if random.random() < 0.5:
            headers = {
                name: mutated(random, value.encode()).decode("utf-8", "surrogateescape")
                for name, value in headers.items()
            }
        found = object_from_head("key", headers)
        assert found is None or (found.size < 2**63 and rfc3339(found.last_modified)), headers


def test_every_event_is_read(fuzz: Fuzz) -> None:
    parts: tuple[Any, ...] = (None, 1, "a", "ObjectCreated:Put", "[" * 100_000, "{}", [], {}, "%ff", "\ud800")
    for random in fuzz.rounds():
        value: list[Any] = random.choices(parts, k=8)
        item = {"bucket": random.choice((value[0], {"name": value[1]})), "object": {"key": value[2]}}
        record = {"eventName": value[3], "s3": random.choice((value[4], item))}
        events: tuple[Any, ...] = (
            {"Records": [record, value[5]]},
            {"source": "aws.s3", "detail-type": "Object Created", "detail": item},
            {"Type": "Notification", "Message": value[6]},
            {"Records": value[7]},
            value[7],
        )
        list(created_objects(random.choice(events)))


BOMBS = {
    "entities": b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)) + b"]><x>&j;</x>",
    "an external entity": b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><Error><Code>&a;</Code></Error>",
    "a DOCTYPE in UTF-16": "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><Error><Code>&a;</Code></Error>".encode("utf-16"),
    "a DOCTYPE in UTF-16 without a mark": "<?xml version='1.0' encoding='utf-16le'?><!DOCTYPE x [<!ENTITY a 'aaaa'>]><Error><Code>&a;</Code></Error>".encode("utf-16-le"),
    "deep nesting": b"<a>" * 1_000_000 + b"</a>" * 1_000_000,
    "deep nesting without end": b"<a>" * 2_000_000,
    "many attributes": b"<ListBucketResult " + b" ".join(b"a%d='1'" % n for n in range(500_000)) + b"/>",
    "many namespaces": b"<ListBucketResult " + b" ".join(b"xmlns:a%d='b'" % n for n in range(300_000)) + b"/>",
    "many keys": b"<ListBucketResult>" + b"<Contents><Key>a</Key><Size>1</Size></Contents>" * 170_000 + b"</ListBucketResult>",
    "many empty keys": b"<ListBucketResult>" + b"<Contents/>" * 700_000 + b"</ListBucketResult>",
    "a long token": b"<ListBucketResult><a>" + b"&#97;" * 1_600_000 + b"</a></ListBucketResult>",
    "an unknown encoding": b"<?xml version='1.0' encoding='rot13'?><Error/>",
    "a huge size": b"<ListBucketResult><Contents><Key>a</Key><Size>" + b"9" * 8_000_000 + b"</Size></Contents></ListBucketResult>",
    "a long time": b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified>" + b"2" * 8_000_000 + b"</LastModified></Contents></ListBucketResult>",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_no_more_than_its_size(name: str) -> None:
    body, started = BOMBS[name], thread_time()
    page, code = parsed(body), find_element_text(body[: 64 * 1024], "Code")
    assert thread_time() - started < SECONDS
    assert page is None or len(page.objects) <= 10_000
    assert code == ""
