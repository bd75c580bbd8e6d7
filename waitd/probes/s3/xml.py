"""Parses S3's responses: lists of keys, errors, and the headers of an object."""

from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET


class S3Object(NamedTuple):
    """The metadata of an object. `last_modified` is in Unix seconds."""

    key: str
    size: int
    last_modified: float
    etag: str


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
    size = headers.get("Content-Length", "")
    last_modified = _timestamp(parsedate_to_datetime, modified)
    return S3Object(key, int(size) if size.isdecimal() else 0, last_modified, etag)


def find_element_text(body: bytes | None, name: str) -> str:
    """Returns the text of an element of an error document; "" if it has none."""
    try:
        root = _parse(body or b"")
    except (ValueError, ET.ParseError):
        return ""
    return next(((e.text or "").strip()[:64] for e in root.iter() if _local_name(e) == name), "")


def parse_list_page(body: bytes) -> ListPage:
    """Parses a `ListBucketResult`.

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
        last_modified = _timestamp(datetime.fromisoformat, fields.get(modified, ""))
        objects.append(S3Object(decode(fields[key]), int(fields[size]), last_modified, fields.get(etag, "")))
    if text(f"{namespace}IsTruncated") != "true":
        return ListPage(objects, None)
    token = text(f"{namespace}NextContinuationToken")
    if not token:
        raise ValueError("a truncated list without a continuation token")
    return ListPage(objects, token)


def _parse(body: bytes) -> ET.Element:
    if b"<!DOCTYPE" in body:
        raise ValueError("S3 sends no DOCTYPE")
    return ET.fromstring(body)  # noqa: S314 - without a DOCTYPE there are no entities


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _timestamp(parse: Callable[[str], datetime], text: str) -> float:
    """The time in Unix seconds; 0 if the text is not a time."""
    try:
        return parse(text).timestamp()
    except ValueError:
        return 0.0
