"""The kind `s3_key`: waits until keys, or matches of patterns, exist and meet `check`."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from anyio import BrokenWorkerProcess

from waitd.core.http.answer import RESULT_OMITTED, CredentialsRefused
from waitd.core.waits.verdict import Pending, Success, Unreachable, Verdict
from waitd.ports import CancelPoke, OnVerdicts, Pokeable, Probe, Topic
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.cel.files import unmet_check
from waitd.probes.cel.judging import judge_each
from waitd.probes.cel.workers import worker_timeout
from waitd.probes.s3.client import TOO_MANY_KEYS, S3Client
from waitd.probes.s3.details import MAX_DETAILED, TOO_MANY_DETAILS, add_details
from waitd.probes.s3.fast_path import ABSENT, AbsentKeyPoke
from waitd.probes.s3.listing import PatternMatches, list_matches
from waitd.probes.s3.metadata import MetadataKeys, union
from waitd.probes.s3.params import (
    Addresses,
    S3KeyOptions,
    S3KeyParams,
    S3KeyTarget,
    compile_pattern,
    key_target,
)
from waitd.probes.s3.xml import S3Object

#: The loop gets a turn after the metadata of this many files.
_FILES_PER_TURN = 5000

NO_MATCH = Pending("absent", "No key matches.")
TOO_SLOW = Unreachable("condition_too_slow", "The check needs too much time or memory for so many files.")


class _Matches(NamedTuple):
    """The objects of each address of a wait.

    `truncated`: the lists have more, on which nothing depends.
    """

    objects: Sequence[Sequence[S3Object]]
    truncated: bool = False


class _Query(NamedTuple):
    """What a wait asks for. Equal queries of a group are answered once."""

    options: S3KeyOptions
    addresses: Addresses


_Answers = dict[_Query, _Matches | Verdict]
#: The patterns to match in each list, by its bucket and prefix.
_Lists = dict[tuple[str, str], dict[tuple[str, str, bool], PatternMatches]]


class S3KeyProbe(Probe):
    """Pokes S3 for keys. The owner of the client starts and closes it."""

    #: The model of its parameters in the OpenAPI document.
    params_model = S3KeyParams

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> S3KeyTarget:
        """Returns the target of these parameters.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return key_target(params, namespace=namespace)

    def origin(self, target: S3KeyTarget) -> str:
        """Returns the endpoint's origin if it is cached, else `connection <conn_id>`."""
        return self._client.endpoints.origin(target.account_ref)

    def topics(self, target: S3KeyTarget) -> Sequence[Topic]:
        """See `Probe.topics`: the keys, and the literal beginnings of patterns."""
        options = target.options
        return [
            Topic(options.namespace, f"s3://{bucket}", text)
            if options.mode == "key"
            else Topic(
                options.namespace,
                f"s3://{bucket}",
                compile_pattern(options.mode, text).prefix,
                partial(_matches, options.mode, text),
            )
            for bucket, text in target.addresses
        ]

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Asks once for waits with equal coalescing keys; returns a verdict for each, in order."""
        started = time.monotonic()
        target: S3KeyTarget = group[0].target
        queries = [_Query(each.target.options, each.target.addresses) for each in group]
        distinct = list(dict.fromkeys(queries))
        request = (
            partial(self._head_keys, distinct)
            if target.options.mode == "key"
            else partial(self._list_patterns, distinct)
        )
        answers = await self._client.endpoints.call(target.account_ref, request)
        if not isinstance(answers, dict):
            return [answers] * len(group)
        verdicts = await self._evaluate(answers, started + target.request_timeout)
        return [verdicts[query] for query in queries]

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """See `Probe.start_poke`; asks again for one absent key without a task."""
        target: S3KeyTarget = group[0].target
        runs = group[0].progress.runs
        endpoint = self._client.endpoints.cached_fresh(target.account_ref)
        if (
            endpoint is None
            or target.options.mode != "key"
            or len(group) > 1
            or len(target.addresses) > 1
            or not runs
            or runs[-1].reason != ABSENT.reason
        ):
            return super().start_poke(group, on_verdicts)
        poke = AbsentKeyPoke(self._client, endpoint, target.addresses[0], partial(self.poke, group))
        return poke.start(on_verdicts)

    async def _head_keys(
        self, queries: Sequence[_Query], endpoint: AwsEndpoint
    ) -> _Answers | Verdict | CredentialsRefused:
        """Asks for each key of a group, whose addresses are all the same."""
        addresses = queries[0].addresses
        wanted = _wanted(queries)
        objects = []
        for bucket, key in addresses:
            answer = await self._client.head(endpoint, bucket, key, wanted)
            if answer is None:
                return ABSENT if len(addresses) == 1 else _absent(bucket, key)
            if not isinstance(answer, S3Object):
                return answer
            found = [answer]
            if wanted.tags:
                detailed = await add_details(self._client, endpoint, bucket, found, wanted, by_head=False)
                if not isinstance(detailed, list):
                    return detailed
                found = detailed
            objects.append(found)
        return dict.fromkeys(queries, _Matches(objects))

    async def _list_patterns(
        self, queries: Sequence[_Query], endpoint: AwsEndpoint
    ) -> _Answers | Verdict | CredentialsRefused:
        """Matches the patterns of a group; those with the same prefix share a LIST.

        A list is skipped if its patterns belong to queries that another pattern has already
        decided.
        """
        lists: _Lists = {}
        matches = {
            query: [_shared_matches(lists, query.options, *address) for address in query.addresses]
            for query in queries
        }
        wanted = _wanted(queries)
        error: Verdict | None = None
        for (bucket, prefix), patterns in lists.items():
            needed = {each for parts in matches.values() if not _is_decided(parts) for each in parts}
            to_match = [each for each in patterns.values() if each in needed]
            if to_match:
                result = await list_matches(self._client, endpoint, bucket, prefix, to_match, wanted=wanted)
                if isinstance(result, CredentialsRefused):
                    return result
                if result is not None:
                    error = result
                    break
        answers: _Answers = {}
        for query, parts in matches.items():
            answer = await self._with_details(endpoint, query, _answer(query, parts, error))
            if isinstance(answer, CredentialsRefused):
                return answer
            answers[query] = answer
        return answers

    async def _with_details(
        self, endpoint: AwsEndpoint, query: _Query, answer: _Matches | Verdict
    ) -> _Matches | Verdict | CredentialsRefused:
        """Adds the metadata of the matches that no LIST gives."""
        wanted, check = query.options.metadata, query.options.check
        if not isinstance(answer, _Matches) or not (wanted.by_head or wanted.tags) or answer.truncated:
            return answer
        if sum(map(len, answer.objects)) > MAX_DETAILED:
            return answer._replace(truncated=True) if check is None else TOO_MANY_DETAILS
        detailed = []
        for (bucket, _), objects in zip(query.addresses, answer.objects, strict=True):
            result = await add_details(
                self._client, endpoint, bucket, objects, wanted, by_head=wanted.by_head
            )
            if not isinstance(result, list):
                return result
            detailed.append(result)
        return _Matches(detailed)

    async def _evaluate(self, answers: _Answers, deadline: float) -> Mapping[_Query, Verdict]:
        """`deadline` is in monotonic seconds."""
        files = 0

        async def judge(query: _Query, sharers: int) -> Verdict:
            nonlocal files
            answer = answers[query]
            if not isinstance(answer, _Matches):
                return answer
            files += sum(map(len, answer.objects))
            if files > _FILES_PER_TURN:
                await asyncio.sleep(0)
                files = 0
            return await self._check(query.options, answer, deadline, sharers)

        return await judge_each(answers, judge)

    async def _check(
        self, options: S3KeyOptions, matches: _Matches, deadline: float, sharers: int
    ) -> Verdict:
        """Evaluates `check`, for which `sharers` checks share the remaining time."""
        files_by_address = [[options.metadata.of(each) for each in objects] for objects in matches.objects]
        if options.check is not None:
            try:
                async with worker_timeout(deadline - time.monotonic(), sharers):
                    for files in files_by_address:
                        unmet = await unmet_check(options.check, files, self._client.workers)
                        if unmet is not None:
                            return Pending("check", f"The keys exist; check: {unmet}.")
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        payload = None if matches.truncated else [file for files in files_by_address for file in files]
        if payload is None or len(orjson.dumps(payload)) > RESULT_LIMIT:
            return Success(None, RESULT_OMITTED, "The keys exist.")
        return Success(payload, "success", "The keys exist.")


def _wanted(queries: Sequence[_Query]) -> MetadataKeys:
    """The metadata that any of these queries needs."""
    if len(queries) == 1:
        return queries[0].options.metadata
    return union(query.options.metadata for query in queries)


def _shared_matches(lists: _Lists, options: S3KeyOptions, bucket: str, text: str) -> PatternMatches:
    """Adds a pattern to the list that it is matched in; equal patterns share one object."""
    pattern, needs_all = compile_pattern(options.mode, text), options.check is not None
    patterns = lists.setdefault((bucket, pattern.prefix), {})
    return patterns.setdefault((options.mode, text, needs_all), PatternMatches(pattern, needs_all=needs_all))


def _is_decided(parts: Sequence[PatternMatches]) -> bool:
    return any(each.missing or each.too_many for each in parts)


def _answer(query: _Query, parts: Sequence[PatternMatches], error: Verdict | None) -> _Matches | Verdict:
    for (bucket, text), each in zip(query.addresses, parts, strict=True):
        if each.defect is not None:
            return each.defect
        if each.too_many:
            return TOO_MANY_KEYS
        if each.missing:
            return NO_MATCH if len(parts) == 1 else _absent(bucket, text)
    if error is not None and not all(each.listed for each in parts):
        return error
    return _Matches([each.objects for each in parts], truncated=any(each.truncated for each in parts))


def _matches(mode: str, text: str, key: str) -> bool:
    """Whether a pattern matches a key.

    It is compiled at each call: many waits' patterns would need too much memory.
    """
    return compile_pattern(mode, text).matches(key)


def _absent(bucket: str, text: str) -> Pending:
    return Pending("absent", f"Missing: s3://{bucket}/{text}")
