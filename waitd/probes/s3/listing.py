"""One LIST on behalf of waits whose patterns begin with the same text: each pattern takes from it what it matches."""

import asyncio
from collections.abc import Collection, Sequence

from anyio import to_thread

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Verdict
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.s3.client import MAX_PAGES, S3Client
from waitd.probes.s3.patterns import Pattern
from waitd.probes.s3.xml import ListPage, S3Object

#: The shortest that a file can be as JSON, `{"Size":0}`, in bytes: so many files are certainly too large a payload.
CERTAINLY_TOO_MANY = RESULT_LIMIT // 10
#: Patterns are matched in the loop up to this much work at a time, in instructions times bytes; one that needs more of it by itself, in a thread.
_INLINE_MATCHING = 8_000_000


class PatternMatches:
    """A pattern, and what it has matched.

    Attributes:
        every: each match counts, as a check looks at them; else as many do as a payload holds.
        listed: whether it was looked for, as far as was needed.
        cut: whether the list was not read to its end, as nothing could depend on the rest.
        too_many: there are more keys than are read, and something depends on the rest.
    """

    __slots__ = ("cut", "every", "files", "listed", "pattern", "too_many")

    def __init__(self, pattern: Pattern, *, every: bool) -> None:
        self.pattern = pattern
        self.every = every
        self.files: list[S3Object] = []
        self.listed = self.cut = self.too_many = False

    @property
    def missing(self) -> bool:
        """Whether nothing matches."""
        return self.listed and not self.files


async def list_matches(
    client: S3Client, endpoint: AwsEndpoint, bucket: str, prefix: str, sought: Collection[PatternMatches]
) -> Verdict | CredentialsRefused | None:
    """Lists the keys that begin with `prefix` as far as somebody needs it; None, or what came instead of a list.

    Raises:
        aiohttp.ClientError, OSError: see `classify_error`.
    """
    token: str | None = None
    looking = list(sought)
    for _ in range(MAX_PAGES):
        page = await client.page(endpoint, bucket, prefix, token)
        if not isinstance(page, ListPage):
            return page
        await _match(looking, page.files)
        token = page.next_token
        for each in looking:
            each.cut = token is not None and len(each.files) > CERTAINLY_TOO_MANY and not each.every
            each.listed = each.cut or token is None
        looking = [each for each in looking if not each.listed]
        if not looking:
            return None
    for each in looking:
        each.listed = each.cut = True
        each.too_many = each.every or not each.files
    return None


async def _match(sought: Sequence[PatternMatches], files: Sequence[S3Object]) -> None:
    size = sum(len(file.key) for file in files)
    done = 0
    for each in sought:
        work = each.pattern.program * size
        if work > _INLINE_MATCHING:
            each.files += await to_thread.run_sync(_matching, each.pattern, files)
            continue
        if done + work > _INLINE_MATCHING:
            await asyncio.sleep(0)
            done = 0
        each.files += _matching(each.pattern, files)
        done += work


def _matching(pattern: Pattern, files: Sequence[S3Object]) -> list[S3Object]:
    return [file for file in files if pattern.matches(file.key)]
