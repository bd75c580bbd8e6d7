"""The metadata of an object that `metadata_keys` can name: the fields of S3's HEAD and LIST.

The names are those of boto3, which Airflow's `metadata_keys` uses, and `Tags`. Times are RFC 3339
texts.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from waitd.core.waits.event import rfc3339
from waitd.probes.s3.xml import S3Object, http_timestamp, iso_timestamp, number

#: What every object has, from a HEAD or a LIST, in the order in which it is shown.
_COMMON: Mapping[str, Callable[[S3Object], Any]] = {
    "Key": lambda each: each.key,
    "Size": lambda each: each.size,
    "LastModified": lambda each: rfc3339(each.last_modified),
    "ETag": lambda each: each.etag,
}
#: The other fields of a LIST. A HEAD gives StorageClass and ChecksumType, too.
_LISTED = ("StorageClass", "ChecksumAlgorithm", "ChecksumType", "Owner", "RestoreStatus")
_CHECKSUMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")  # fmt: skip
_TEXTS = {
    **{f"Checksum{name}": f"x-amz-checksum-{name.lower()}" for name in _CHECKSUMS},
    "AcceptRanges": "accept-ranges",
    "ArchiveStatus": "x-amz-archive-status",
    "CacheControl": "cache-control",
    "ChecksumType": "x-amz-checksum-type",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentRange": "content-range",
    "ContentType": "content-type",
    "Expiration": "x-amz-expiration",
    "ObjectLockEventHold": "x-amz-object-lock-event-hold",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ReplicationStatus": "x-amz-replication-status",
    "RequestCharged": "x-amz-request-charged",
    "Restore": "x-amz-restore",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSECustomerKeyMD5": "x-amz-server-side-encryption-customer-key-md5",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "VersionId": "x-amz-version-id",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
_NUMBERS = {
    "ContentLength": "content-length",
    "MissingMeta": "x-amz-missing-meta",
    "ObjectLockEventHoldDurationDays": "x-amz-object-lock-event-hold-duration-days",
    "ObjectLockEventHoldDurationYears": "x-amz-object-lock-event-hold-duration-years",
    "PartsCount": "x-amz-mp-parts-count",
    "TagCount": "x-amz-tagging-count",
}
_BOOLEANS = {
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
    "DeleteMarker": "x-amz-delete-marker",
}
_USER_METADATA = "x-amz-meta-"
#: The fields by the header that has them, and how its text is read.
_HEADERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    **{header: (name, str) for name, header in _TEXTS.items()},
    **{header: (name, number) for name, header in _NUMBERS.items()},
    **{header: (name, lambda text: text.lower() == "true") for name, header in _BOOLEANS.items()},
    "expires": ("Expires", lambda text: _time(http_timestamp(text))),
    "x-amz-object-lock-retain-until-date": (
        "ObjectLockRetainUntilDate",
        lambda text: _time(iso_timestamp(text)),
    ),
}
_HEAD_ONLY = frozenset({name for name, _ in _HEADERS.values()} - {*_LISTED} | {"Metadata"})
#: All names, in the order in which they are shown. `Tags` needs a request of its own.
METADATA = (*_COMMON, *_LISTED, *sorted(_HEAD_ONLY), "Tags")


class MetadataKeys(NamedTuple):
    """The metadata that a wait needs, and what must be asked for it.

    Attributes:
        names: the fields, in the order in which they are shown.
        shown_empty: those of them that are null where an object lacks them; others are left out.
        by_head: whether a HEAD is needed even if a LIST has named the object.
        tags: whether the tags are needed.
        extra: whether more is needed than every object has.
    """

    names: tuple[str, ...]
    shown_empty: frozenset[str]
    by_head: bool
    tags: bool
    extra: bool

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that ask S3 for fields that it gives on request."""
        checksums = (("X-Amz-Checksum-Mode", "ENABLED"),)
        restore = (("X-Amz-Optional-Object-Attributes", "RestoreStatus"),)
        named = self.shown_empty
        return (
            *(checksums if any(f"Checksum{name}" in named for name in _CHECKSUMS) else ()),
            *(restore if "RestoreStatus" in named else ()),
        )

    @property
    def owner(self) -> bool:
        """Whether a LIST is asked for owners."""
        return "Owner" in self.shown_empty

    @property
    def requests(self) -> tuple[Any, ...]:
        """How S3 is asked for the fields: it may deny one of these requests and not another."""
        return (self.headers, self.owner, self.by_head, self.tags)

    def of(self, found: S3Object) -> dict[str, Any]:
        """Returns the metadata of an object."""
        if not self.extra:
            return {name: _COMMON[name](found) for name in self.names}
        values = ((name, _value(found, name)) for name in self.names)
        return {name: value for name, value in values if value is not None or name in self.shown_empty}


def metadata_keys(names: Collection[str], check: str | None) -> MetadataKeys:
    """Returns the metadata that `metadata_keys` and `check` name.

    `*` is all that comes with no more requests, and what `check` mentions.
    """
    named = frozenset(names)
    if "*" in names:
        named = named.union(_COMMON, re.findall(r"\w+", check or "")).intersection(METADATA)
    shown = METADATA if "*" in names else tuple(dict.fromkeys(names))
    return _metadata_keys(shown, named)


def union(each: Iterable[MetadataKeys]) -> MetadataKeys:
    """Returns what several waits need together."""
    distinct = set(each)
    if len(distinct) == 1:
        return distinct.pop()
    names = frozenset[str]().union(*(one.names for one in distinct))
    return _metadata_keys(tuple(names), frozenset().union(*(one.shown_empty for one in distinct)))


def _metadata_keys(names: tuple[str, ...], named: frozenset[str]) -> MetadataKeys:
    extra = not _COMMON.keys() >= set(names)
    return MetadataKeys(names, named, not named.isdisjoint(_HEAD_ONLY), "Tags" in named, extra)


def head_fields(headers: Mapping[str, str], mask: Callable[[str], str]) -> dict[str, Any]:
    """Returns the fields in the headers of a response to a HEAD; `mask` removes secrets."""
    fields: dict[str, Any] = {}
    user: dict[str, str] = {}
    for header, text in headers.items():
        name = header.lower()
        value = mask(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        if name.startswith(_USER_METADATA):
            user[name.removeprefix(_USER_METADATA)] = value
        elif name in _HEADERS:
            field, read = _HEADERS[name]
            fields[field] = read(value)
    return {**fields, "Metadata": user}


def _value(found: S3Object, name: str) -> Any:
    common = _COMMON.get(name)
    return found.fields.get(name) if common is None else common(found)


def _time(seconds: float) -> str | None:
    return rfc3339(seconds) if seconds else None
