"""What S3 says in XML and in headers: lists of keys, and errors."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET


class S3Object(NamedTuple):
    """What S3 says of a key. `last_modified` is in Unix seconds."""

    key: str
    size: int
    last_modified: float
    etag: str


class ListPage(NamedTuple):
    """Up to 1,000 keys in the order of their bytes; `next_token` is None on the last page."""

    files: list[S3Object]
    next_token: str | None


def object_from_head(key: str, headers: Mapping[str, str]) -> S3Object | None:
    """The object that the answer to a HEAD describes; None where it is no answer of an S3 store."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if not (etag or modified):
        return None
    size = headers.get("Content-Length", "")
    written = 0.0
    with suppress(ValueError):
        written = parsedate_to_datetime(modified).timestamp()
    return S3Object(key, int(size) if size.isdecimal() else 0, written, etag)


def find_element_text(body: bytes | None, name: str) -> str:
    """The text of an element of an error; "" where there is none."""
    if not body or b"<!DOCTYPE" in body:
        return ""
    try:
        root = ET.fromstring(body)  # noqa: S314 - no document type, so no entities
    except ET.ParseError:
        return ""
    return next(((e.text or "").strip()[:64] for e in root.iter() if _local(e) == name), "")


def parse_list_page(body: bytes) -> ListPage:
    """Reads a `ListBucketResult`.

    Raises:
        LookupError, ValueError, xml.etree.ElementTree.ParseError: it is none.
    """
    if b"<!DOCTYPE" in body:
        raise ValueError("S3 sends no document type")
    root = ET.fromstring(body)  # noqa: S314 - no document type, so no entities
    if _local(root) != "ListBucketResult":
        raise ValueError("no list")
    namespace = root.tag[: -len("ListBucketResult")]
    text = root.findtext
    decode = unquote_plus if text(f"{namespace}EncodingType") == "url" else str
    key, size, modified, etag = (namespace + name for name in ("Key", "Size", "LastModified", "ETag"))
    files = []
    for item in root.iterfind(f"{namespace}Contents"):
        said = {part.tag: part.text or "" for part in item}
        written = _moment(said.get(modified, ""))
        files.append(S3Object(decode(said[key]), int(said[size]), written, said.get(etag, "")))
    if text(f"{namespace}IsTruncated") != "true":
        return ListPage(files, None)
    token = text(f"{namespace}NextContinuationToken")
    if not token:
        raise ValueError("there is more, and no way to it")
    return ListPage(files, token)


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
