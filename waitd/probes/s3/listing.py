"""Runs one LIST for many patterns with the same prefix; each collects what it matches."""

import asyncio
from collections.abc import Collection, Sequence

from anyio import to_thread

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Verdict
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.cel.judging import defect_verdict
from waitd.probes.s3.client import MAX_PAGES, S3Client
from waitd.probes.s3.metadata import MetadataKeys
from waitd.probes.s3.patterns import Pattern
from waitd.probes.s3.xml import ListPage, S3Object

#: This many objects are too large a payload in any case: the shortest, `{"Size":0}`, has 10 bytes.
CERTAINLY_TOO_MANY = RESULT_LIMIT // 10
#: The work of matching that is done in the loop at a time, in instructions times bytes. A pattern
#: that needs more for one page is matched in a thread.
_INLINE_MATCHING = 8_000_000


class PatternMatches:
    """A pattern, and the objects that it has matched.

    Attributes:
        needs_all: whether every match is needed, for a check; else as many as a payload can hold.
        listed: whether the list was read as far as needed.
        truncated: whether the list has more, on which nothing depends.
        too_many: whether there are more keys than are read, and the result depends on the rest.
        defect: the verdict of its waits, if it cannot be matched.
    """

    __slots__ = ("defect", "listed", "needs_all", "objects", "pattern", "too_many", "truncated")

    def __init__(self, pattern: Pattern, *, needs_all: bool) -> None:
        self.pattern = pattern
        self.needs_all = needs_all
        self.objects: list[S3Object] = []
        self.listed = self.truncated = self.too_many = False
        self.defect: Verdict | None = None

    @property
    def missing(self) -> bool:
        """Whether the list was read and nothing matches."""
        return self.listed and not self.objects and self.defect is None


async def list_matches(
    client: S3Client,
    endpoint: AwsEndpoint,
    bucket: str,
    prefix: str,
    patterns: Collection[PatternMatches],
    *,
    wanted: MetadataKeys | None = None,
) -> Verdict | CredentialsRefused | None:
    """Lists the keys with this prefix until no pattern needs more; returns None or an error.

    Raises:
        aiohttp.ClientError, OSError: see `classify_error`.
    """
    token: str | None = None
    open_patterns = list(patterns)
    for _ in range(MAX_PAGES):
        page = await client.list_page(endpoint, bucket, prefix, token, wanted)
        if not isinstance(page, ListPage):
            return page
        await _match(open_patterns, page.objects)
        token = page.next_token
        for each in open_patterns:
            each.truncated = (
                token is not None and len(each.objects) > CERTAINLY_TOO_MANY and not each.needs_all
            )
            each.listed = each.truncated or token is None or each.defect is not None
        open_patterns = [each for each in open_patterns if not each.listed]
        if not open_patterns:
            return None
    for each in open_patterns:
        each.listed = each.truncated = True
        each.too_many = each.needs_all or not each.objects
    return None


async def _match(patterns: Sequence[PatternMatches], objects: Sequence[S3Object]) -> None:
    size = sum(len(each.key) for each in objects)
    done = 0
    for each in patterns:
        work = each.pattern.program * size
        if work <= _INLINE_MATCHING < done + work:
            await asyncio.sleep(0)
            done = 0
        try:
            if work > _INLINE_MATCHING:
                each.objects += await to_thread.run_sync(_matching, each.pattern, objects)
            else:
                each.objects += _matching(each.pattern, objects)
                done += work
        except Exception as error:  # noqa: BLE001 - a defect met in one pattern is no other's
            each.defect = defect_verdict(error)


def _matching(pattern: Pattern, objects: Sequence[S3Object]) -> list[S3Object]:
    return [each for each in objects if pattern.matches(each.key)]
