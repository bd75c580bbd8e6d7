"""Parses S3's responses: lists of keys, errors, and the headers of an object."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from waitd.core.waits.event import rfc3339

#: The most tags, and quotes of attributes and ETags, in a document. A page of 1,000 keys with all
#: fields has 28,000 tags. Parsing the worst that the limits here admit takes the loop 0.1 to 0.2 s.
_MAX_TAGS, _MAX_QUOTES = 40_000, 10_000
#: A namespace that is longer than any of S3. The parser copies it into the name of each element.
_LONG_NAMESPACE = re.compile(rb"xmlns[\s:=][^<]{512}")
#: A tag that is longer than any of S3, or has a longer name: each new name costs time and memory.
_LONG_TAG = re.compile(rb"<(?!!)(?:[^<>\s]{64}|[^<>]{512})")
#: Only documents with more bytes per tag are searched for long tags. Most pages of S3 have fewer,
#: and the search takes a tenth of the parser's time.
_SHORT_TAG = 32
#: The longest key of S3 in characters, percent-encoded.
_MAX_KEY = 3 * 1024

_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class S3Object(NamedTuple):
    """The metadata of an object. `last_modified` is in Unix seconds.

    `fields`: other metadata by name, if it was asked for.
    """

    key: str
    size: int
    last_modified: float
    etag: str
    fields: Mapping[str, Any] = _NO_FIELDS


class ListPage(NamedTuple):
    """Up to 1,000 objects in the order of their keys' bytes.

    `next_token` is None on the last page.
    """

    objects: list[S3Object]
    next_token: str | None


def object_from_head(key: str, headers: Mapping[str, str]) -> S3Object | None:
    """Reads the headers of a response to a HEAD; None if no S3 store sent them."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if not (etag or modified):
        return None
    try:
        size = _size(headers.get("Content-Length", ""))
    except ValueError:
        size = 0
    return S3Object(key, size, http_timestamp(modified), etag)


def find_element_text(body: bytes | None, name: str) -> str:
    """Returns the text of an element of an error document; "" if it has none."""
    try:
        root = _parse(body or b"")
    except (ValueError, ET.ParseError):
        return ""
    return next(((e.text or "").strip()[:64] for e in root.iter() if _local_name(e) == name), "")


def parse_tags(body: bytes) -> dict[str, str]:
    """Parses a `Tagging`.

    Raises:
        ValueError, xml.etree.ElementTree.ParseError: the body is not one.
    """
    root = _parse(body)
    if _local_name(root) != "Tagging":
        raise ValueError("not a Tagging")
    pairs = (_texts(each) for each in root.iter() if _local_name(each) == "Tag")
    return {pair.get("Key", ""): pair.get("Value", "") for pair in pairs}


def parse_list_page(body: bytes, *, extra: bool = False) -> ListPage:
    """Parses a `ListBucketResult`. `extra`: with the `fields` of the objects.

    Raises:
        LookupError, ValueError, xml.etree.ElementTree.ParseError: the body is not one.
    """
    root = _parse(body)
    if _local_name(root) != "ListBucketResult":
        raise ValueError("not a ListBucketResult")
    namespace = root.tag[: -len("ListBucketResult")]
    text = root.findtext
    decode = unquote_plus if text(f"{namespace}EncodingType") == "url" else str
    key, size, modified, etag = (namespace + name for name in ("Key", "Size", "LastModified", "ETag"))
    objects = []
    for item in root.iterfind(f"{namespace}Contents"):
        fields = {part.tag: part.text or "" for part in item}
        if len(fields[key]) > _MAX_KEY:
            raise ValueError("a key that is too long")
        last_modified = iso_timestamp(fields.get(modified, ""))
        s3_object = S3Object(decode(fields[key]), _size(fields[size]), last_modified, fields.get(etag, ""))
        objects.append(s3_object._replace(fields=_listed_fields(item)) if extra else s3_object)
    if text(f"{namespace}IsTruncated") != "true":
        return ListPage(objects, None)
    token = text(f"{namespace}NextContinuationToken")
    if not token:
        raise ValueError("a truncated list without a continuation token")
    return ListPage(objects, token)


def _listed_fields(item: ET.Element) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for part in item:
        name, text = _local_name(part), part.text or ""
        if name in {"StorageClass", "ChecksumType"}:
            fields[name] = text
        elif name == "ChecksumAlgorithm":
            fields.setdefault(name, []).append(text)
        elif name == "Owner":
            fields[name] = _texts(part)
        elif name == "RestoreStatus":
            status = _texts(part)
            expiry = iso_timestamp(status.get("RestoreExpiryDate", ""))
            fields[name] = {"IsRestoreInProgress": status.get("IsRestoreInProgress") == "true"}
            if expiry:
                fields[name]["RestoreExpiryDate"] = rfc3339(expiry)
    return fields


def _texts(element: ET.Element) -> dict[str, str]:
    return {_local_name(part): part.text or "" for part in element}


def _parse(body: bytes) -> ET.Element:
    # The parser recognizes UTF-16, in which a DOCTYPE has other bytes; S3 sends UTF-8.
    if b"<!DOCTYPE" in body or b"\0" in body:
        raise ValueError("S3 sends no DOCTYPE")
    tags = body.count(b"<")
    if tags > _MAX_TAGS or body.count(b"'") + body.count(b'"') > _MAX_QUOTES:
        raise ValueError("too many elements or attributes")
    # The parser passes on each end of a line separately.
    if max(body.count(b"\r"), body.count(b"\n")) > _MAX_TAGS:
        raise ValueError("too many lines")
    if _LONG_NAMESPACE.search(body) or (len(body) > tags * _SHORT_TAG and _LONG_TAG.search(body)):
        raise ValueError("a long name or attribute")
    # The encoding replaces any that the text declares.
    parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - without a DOCTYPE there are no entities
    return ET.fromstring(body, parser)  # noqa: S314 - as above


def number(text: str) -> int | None:
    """The number below 10**18 that a text is; None if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def _size(text: str) -> int:
    """The size of an object in bytes. Raises ValueError when it is not a number below 10**18."""
    size = number(text)
    if size is None:
        raise ValueError("not a size")
    return size


def http_timestamp(text: str) -> float:
    """The time of a header in Unix seconds; 0 if the text is not a time."""
    return _timestamp(parsedate_to_datetime, text)


def iso_timestamp(text: str) -> float:
    """The time of an element in Unix seconds; 0 if the text is not a time."""
    return _timestamp(datetime.fromisoformat, text)


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _timestamp(parse: Callable[[str], datetime], text: str) -> float:
    """The time in Unix seconds; 0 if the text is not a time."""
    try:
        moment = parse(text)
        if moment.tzinfo is None:  # both formats of S3 are in UTC
            moment = moment.replace(tzinfo=UTC)
        return max(moment.timestamp(), 0.0)
    except (ValueError, OverflowError, TypeError):
        return 0.0
