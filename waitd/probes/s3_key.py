"""The kind `s3_key`: keys, or keys that match a pattern, are there, and what `check` says of them is true."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from anyio import to_thread

from waitd.core.answer import RESULT_OMITTED, Refused
from waitd.core.event import rfc3339
from waitd.core.verdict import Pending, Success, Unreachable, Verdict
from waitd.ports import Pokeable, Topic
from waitd.probes.aws_places import Place
from waitd.probes.file_check import TooHeavy, checked
from waitd.probes.judging import RESULT_LIMIT
from waitd.probes.patterns import Pattern
from waitd.probes.s3_client import MAX_PAGES, TOO_MANY, S3Client
from waitd.probes.s3_params import Look, S3KeyParams, S3KeyTarget, key_target, pattern_of
from waitd.probes.s3_xml import File, Page

#: The shortest that a file can be as JSON, `{"Size":0}`, in bytes: so many files are certainly too large a payload.
_CERTAINLY_TOO_MANY = RESULT_LIMIT // 10
#: Patterns are matched in the loop up to this much work, in instructions times bytes; beyond it, in a thread.
_INLINE_MATCHING = 8_000_000
#: A worker gets this share of the time that is left, so that its verdict comes before the caller's patience ends.
_SHARE = 0.9

ABSENT = Pending("absent", "The key is not there.")
NO_MATCH = Pending("absent", "No key matches.")
TOO_SLOW = Unreachable("condition_too_slow", "The check needs too much time or memory for so many files.")


class _Found(NamedTuple):
    """What each address matched. `cut`: the list was not read to its end, as nothing could depend on the rest."""

    files: list[list[File]]
    cut: bool = False


class S3KeyProbe:
    """Looks for keys. The client is started and closed by its owner."""

    #: What the API's document shows of its parameters.
    params_model = S3KeyParams

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> S3KeyTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return key_target(params, namespace=namespace)

    def origin(self, target: S3KeyTarget) -> str:
        """The endpoint's origin where it is known, else `connection <conn_id>`."""
        return self._client.places.origin(target.whose)

    def topics(self, target: S3KeyTarget) -> Sequence[Topic]:
        """See `waitd.ports.Listening`: the keys, and what a pattern may match."""
        look = target.look
        return [
            Topic(look.namespace, f"s3://{bucket}", text)
            if look.mode == "key"
            else Topic(
                look.namespace,
                f"s3://{bucket}",
                pattern_of(look.mode, text).prefix,
                partial(_matches, look.mode, text),
            )
            for bucket, text in target.addresses
        ]

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        looks: list[Look] = [pokeable.target.look for pokeable in group]
        target: S3KeyTarget = group[0].target
        give_up = asyncio.get_running_loop().time() + target.request_timeout
        need_all = any(look.check is not None for look in looks)
        found = await self._client.look(
            target.whose, lambda place: self._ask(place, target, need_all=need_all)
        )
        if not isinstance(found, _Found):
            return [found] * len(looks)
        different = dict.fromkeys(looks)
        verdicts = {
            look: await self._judged(look, found, give_up, len(different) - index)
            for index, look in enumerate(different)
        }
        return [verdicts[look] for look in looks]

    async def _ask(self, place: Place, target: S3KeyTarget, *, need_all: bool) -> _Found | Verdict | Refused:
        found, cut = [], False
        for bucket, text in target.addresses:
            if target.look.mode == "key":
                file = await self._client.head(place, bucket, text)
                if file is None:
                    return ABSENT if len(target.addresses) == 1 else _absent(bucket, text)
                if not isinstance(file, File):
                    return file
                found.append([file])
                continue
            matched = await self._matched(
                place, bucket, pattern_of(target.look.mode, text), need_all=need_all
            )
            if not isinstance(matched, _Found):
                return matched
            if not matched.files[0]:
                return NO_MATCH if len(target.addresses) == 1 else _absent(bucket, text)
            found += matched.files
            cut |= matched.cut
        return _Found(found, cut)

    async def _matched(
        self, place: Place, bucket: str, pattern: Pattern, *, need_all: bool
    ) -> _Found | Verdict | Refused:
        """Every key that the pattern matches; as many as matter where no check looks at them."""
        files: list[File] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.page(place, bucket, pattern.prefix, token)
            if not isinstance(page, Page):
                return page
            files += await _matching(pattern, page.files)
            token = page.next_token
            if token is None:
                return _Found([files])
            if len(files) > _CERTAINLY_TOO_MANY and not need_all:
                return _Found([files], cut=True)
        return _Found([files], cut=True) if files and not need_all else TOO_MANY

    async def _judged(self, look: Look, found: _Found, give_up: float, sharers: int) -> Verdict:
        shown = [[_shown(look.metadata, file) for file in files] for files in found.files]
        if look.check is not None:
            left = (give_up - asyncio.get_running_loop().time()) * _SHARE / sharers
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    for files in shown:
                        told = await checked(look.check, files, self._client.workers)
                        if told is not None:
                            return Pending("check", f"The keys are there; of check: {told}.")
            except (TimeoutError, TooHeavy):
                return TOO_SLOW
        payload = None if found.cut else [file for files in shown for file in files]
        if payload is None or len(orjson.dumps(payload)) > RESULT_LIMIT:
            return Success(None, RESULT_OMITTED, "The keys are there.")
        return Success(payload, "success", "The keys are there.")


def _matches(mode: str, text: str, key: str) -> bool:
    """Whether a pattern takes a key. Compiled when it is asked: a compiled pattern for each of many waits would be too much to keep."""
    return pattern_of(mode, text).matches(key)


async def _matching(pattern: Pattern, files: Sequence[File]) -> list[File]:
    work = pattern.program * sum(len(file.key) for file in files)
    if work > _INLINE_MATCHING:
        return await to_thread.run_sync(_filtered, pattern, files)
    return _filtered(pattern, files)


def _filtered(pattern: Pattern, files: Sequence[File]) -> list[File]:
    return [file for file in files if pattern.matches(file.key)]


def _absent(bucket: str, text: str) -> Pending:
    return Pending("absent", f"Not there: s3://{bucket}/{text}")


def _shown(metadata: Sequence[str], file: File) -> dict[str, Any]:
    return {name: _SHOWN[name](file) for name in metadata}


_SHOWN: Mapping[str, Callable[[File], Any]] = {
    "Key": lambda file: file.key,
    "Size": lambda file: file.size,
    "LastModified": lambda file: rfc3339(file.last_modified),
    "ETag": lambda file: file.etag,
}
