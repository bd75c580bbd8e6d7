"""Asks S3 for the metadata of objects that a LIST or a plain HEAD does not give."""

import asyncio
from collections.abc import Sequence

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Pending, Unreachable, Verdict
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.metadata import MetadataKeys
from waitd.probes.s3.xml import S3Object

#: The most objects of one wait that are asked about, and how many at a time.
MAX_DETAILED = 1000
_AT_ONCE = 8
TOO_MANY_DETAILS = Unreachable(
    "too_many_keys",
    f"metadata_keys or check needs a request for each match, and more than {MAX_DETAILED:,} keys match; "
    "use a longer pattern, or fields that a LIST gives.",
)


async def add_details(
    client: S3Client,
    endpoint: AwsEndpoint,
    bucket: str,
    objects: Sequence[S3Object],
    wanted: MetadataKeys,
    *,
    by_head: bool,
) -> list[S3Object] | Verdict | CredentialsRefused:
    """Returns the objects with the fields of a HEAD, if `by_head`, and with tags, if wanted.

    Raises:
        aiohttp.ClientError, OSError: see `classify_error`.
    """
    detailed: list[S3Object] = []
    for start in range(0, len(objects), _AT_ONCE):
        some = objects[start : start + _AT_ONCE]
        requests = (_detailed(client, endpoint, bucket, each, wanted, by_head=by_head) for each in some)
        for result in await asyncio.gather(*requests, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            if not isinstance(result, S3Object):
                return result
            detailed.append(result)
    return detailed


async def _detailed(
    client: S3Client,
    endpoint: AwsEndpoint,
    bucket: str,
    found: S3Object,
    wanted: MetadataKeys,
    *,
    by_head: bool,
) -> S3Object | Verdict | CredentialsRefused:
    absent = Pending("absent", f"Missing: s3://{bucket}/{found.key}")  # deleted meanwhile
    if by_head:
        answer = await client.head(endpoint, bucket, found.key, wanted)
        if not isinstance(answer, S3Object):
            return absent if answer is None else answer
        found = answer._replace(fields={**found.fields, **answer.fields})
    if wanted.tags:
        tags = await client.tags(endpoint, bucket, found.key)
        if not isinstance(tags, dict):
            return absent if tags is None else tags
        found = found._replace(fields={**found.fields, "Tags": tags})
    return found
