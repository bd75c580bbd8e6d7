"""The kind `s3_key`: keys, or keys that match a pattern, are there, and what `check` says of them is true."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from anyio import BrokenWorkerProcess

from waitd.core.http.answer import RESULT_OMITTED, CredentialsRefused
from waitd.core.waits.event import rfc3339
from waitd.core.waits.verdict import Pending, Success, Unreachable, Verdict
from waitd.ports import CancelPoke, OnVerdicts, Pokeable, Probe, Topic
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.cel.files import unmet_check
from waitd.probes.s3.client import TOO_MANY_KEYS, S3Client
from waitd.probes.s3.fast_path import ABSENT, AbsentKeyPoke
from waitd.probes.s3.listing import PatternMatches, list_matches
from waitd.probes.s3.params import S3KeyOptions, S3KeyParams, S3KeyTarget, key_target, pattern_of
from waitd.probes.s3.xml import S3Object

#: A worker gets this share of the time that is left, so that its verdict comes before the caller's patience ends.
_SHARE = 0.9
#: After so many files that were shown to waits, the loop has its turn.
_SHOWN_AT_ONCE = 5000

NO_MATCH = Pending("absent", "No key matches.")
TOO_SLOW = Unreachable("condition_too_slow", "The check needs too much time or memory for so many files.")


class _Found(NamedTuple):
    """What each address matched. `cut`: a list was not read to its end, as nothing could depend on the rest."""

    files: Sequence[Sequence[S3Object]]
    cut: bool = False


class _Wanted(NamedTuple):
    """What equal waits are about."""

    look: S3KeyOptions
    addresses: tuple[tuple[str, str], ...]


#: What became of each.
_Answers = dict[_Wanted, _Found | Verdict]
#: By bucket and beginning of its keys: the patterns that are looked for in that list.
_Lists = dict[tuple[str, str], dict[tuple[str, str, bool], PatternMatches]]


class S3KeyProbe(Probe):
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
        return self._client.endpoints.origin(target.account_ref)

    def topics(self, target: S3KeyTarget) -> Sequence[Topic]:
        """See `Probe.topics`: the keys, and the literal beginnings of patterns."""
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
        target: S3KeyTarget = group[0].target
        if target.look.mode != "key":
            return await self._by_lists(target, [_wanted(each) for each in group])
        began = time.monotonic()
        found = await self._client.endpoints.call(target.account_ref, partial(self._heads, target.addresses))
        if not isinstance(found, _Found):
            return [found] * len(group)
        answers: _Answers = dict.fromkeys(map(_wanted, group), found)
        verdicts = await self._judged(answers, began + target.request_timeout)
        return [verdicts[_wanted(each)] for each in group]

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """See `Probe.start_poke`; looks again for one absent key without a task."""
        target: S3KeyTarget = group[0].target
        runs = group[0].progress.runs
        endpoint = self._client.endpoints.cached_fresh(target.account_ref)
        if (
            endpoint is None
            or target.look.mode != "key"
            or len(group) > 1
            or len(target.addresses) > 1
            or not runs
            or runs[-1].reason != ABSENT.reason
        ):
            return super().start_poke(group, on_verdicts)
        poke = AbsentKeyPoke(self._client, endpoint, target.addresses[0], partial(self.poke, group))
        return poke.start(on_verdicts)

    async def _heads(
        self, addresses: Sequence[tuple[str, str]], endpoint: AwsEndpoint
    ) -> _Found | Verdict | CredentialsRefused:
        """Every one of these keys, or what is said of the first that cannot be had."""
        files = []
        for bucket, key in addresses:
            file = await self._client.head(endpoint, bucket, key)
            if file is None:
                return ABSENT if len(addresses) == 1 else _absent(bucket, key)
            if not isinstance(file, S3Object):
                return file
            files.append([file])
        return _Found(files)

    async def _by_lists(self, target: S3KeyTarget, group: Sequence[_Wanted]) -> Sequence[Verdict]:
        """Patterns that begin with the same text share each LIST."""
        began = time.monotonic()
        different = dict.fromkeys(group)
        answers = await self._client.endpoints.call(target.account_ref, partial(self._lists, list(different)))
        if not isinstance(answers, dict):
            return [answers] * len(group)
        verdicts = await self._judged(answers, began + target.request_timeout)
        return [verdicts[each] for each in group]

    async def _lists(
        self, group: Sequence[_Wanted], endpoint: AwsEndpoint
    ) -> _Answers | Verdict | CredentialsRefused:
        """What the patterns of each matched; of those that one pattern has already decided, the others are not looked for."""
        lists: _Lists = {}
        parts: dict[_Wanted, list[PatternMatches]] = {}
        for wanted in group:
            parts[wanted] = [_sought(lists, wanted.look, *address) for address in wanted.addresses]
        trouble: Verdict | None = None
        for (bucket, prefix), patterns in lists.items():
            undecided = {each for sought in parts.values() if not _decided(sought) for each in sought}
            looking = [each for each in patterns.values() if each in undecided]
            if looking:
                told = await list_matches(self._client, endpoint, bucket, prefix, looking)
                if isinstance(told, CredentialsRefused):
                    return told
                if told is not None:
                    trouble = told
                    break
        return {wanted: _found(wanted, sought, trouble) for wanted, sought in parts.items()}

    async def _judged(self, answers: _Answers, give_up: float) -> Mapping[_Wanted, Verdict]:
        """`give_up`: monotonic seconds."""
        verdicts: dict[_Wanted, Verdict] = {}
        shown = 0
        for index, (wanted, found) in enumerate(answers.items()):
            if not isinstance(found, _Found):
                verdicts[wanted] = found
                continue
            shown += sum(map(len, found.files))
            if shown > _SHOWN_AT_ONCE:
                await asyncio.sleep(0)
                shown = 0
            verdicts[wanted] = await self._judge(wanted.look, found, give_up, len(answers) - index)
        return verdicts

    async def _judge(self, look: S3KeyOptions, found: _Found, give_up: float, sharers: int) -> Verdict:
        shown = [[_shown(look.metadata, file) for file in files] for files in found.files]
        if look.check is not None:
            left = (give_up - time.monotonic()) * _SHARE / sharers
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    for files in shown:
                        unmet = await unmet_check(look.check, files, self._client.workers)
                        if unmet is not None:
                            return Pending("check", f"The keys exist; check: {unmet}.")
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        payload = None if found.cut else [file for files in shown for file in files]
        if payload is None or len(orjson.dumps(payload)) > RESULT_LIMIT:
            return Success(None, RESULT_OMITTED, "The keys exist.")
        return Success(payload, "success", "The keys exist.")


def _wanted(pokeable: Pokeable) -> _Wanted:
    target: S3KeyTarget = pokeable.target
    return _Wanted(target.look, target.addresses)


def _sought(lists: _Lists, look: S3KeyOptions, bucket: str, text: str) -> PatternMatches:
    """The pattern among those of the list that it is looked for in; equal ones are one."""
    pattern, every = pattern_of(look.mode, text), look.check is not None
    patterns = lists.setdefault((bucket, pattern.prefix), {})
    which = (look.mode, text, every)
    sought = patterns.get(which)
    if sought is None:
        sought = patterns[which] = PatternMatches(pattern, every=every)
    return sought


def _decided(sought: Sequence[PatternMatches]) -> bool:
    return any(each.missing or each.too_many for each in sought)


def _found(wanted: _Wanted, sought: Sequence[PatternMatches], trouble: Verdict | None) -> _Found | Verdict:
    for (bucket, text), each in zip(wanted.addresses, sought, strict=True):
        if each.too_many:
            return TOO_MANY_KEYS
        if each.missing:
            return NO_MATCH if len(sought) == 1 else _absent(bucket, text)
    if trouble is not None and not all(each.listed for each in sought):
        return trouble
    return _Found([each.files for each in sought], cut=any(each.cut for each in sought))


def _matches(mode: str, text: str, key: str) -> bool:
    """Whether a pattern takes a key. Compiled when it is asked: a compiled pattern for each of many waits would be too much to keep."""
    return pattern_of(mode, text).matches(key)


def _absent(bucket: str, text: str) -> Pending:
    return Pending("absent", f"Not there: s3://{bucket}/{text}")


def _shown(metadata: Sequence[str], file: S3Object) -> dict[str, Any]:
    return {name: _SHOWN[name](file) for name in metadata}


_SHOWN: Mapping[str, Callable[[S3Object], Any]] = {
    "Key": lambda file: file.key,
    "Size": lambda file: file.size,
    "LastModified": lambda file: rfc3339(file.last_modified),
    "ETag": lambda file: file.etag,
}
