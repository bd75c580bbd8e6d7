"""The kind `s3_keys_unchanged`: waits until the keys with a prefix stay the same for a while."""

from array import array
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from waitd.core.aws.keys_unchanged import (
    CONTENTS_MODULUS,
    INLINE_KEYS,
    KeySet,
    KeySetChange,
    KeySetDigest,
    RememberedKeySet,
    compare_key_sets,
    content_hash,
    key_hash,
    key_set_digest,
    short_hash,
)
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.event import rfc3339
from waitd.core.waits.verdict import Failure, Pending, Success, Verdict
from waitd.models import parse_model
from waitd.ports import Pokeable, Probe
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.access.aws_params import AwsTarget, account_problems, coalescing_key
from waitd.probes.cel.judging import defect_verdict
from waitd.probes.s3.client import MAX_PAGES, TOO_MANY_KEYS, S3Client
from waitd.probes.s3.params import (
    S3KeysUnchangedParams,
    bucket_problems,
    check_key,
)
from waitd.probes.s3.xml import ListPage

#: The most short hashes, of 8 bytes each, that are cached of sets too large for the waits' state.
CACHED_KEYS = 4 * 1024 * 1024


class S3KeysUnchangedTarget(AwsTarget):
    """A prefix, and what is required of its keys.

    Attributes:
        previous: the digest of `previous_objects`.
        previous_keys: their short hashes; None if deletions are allowed.
        contents: whether a change of ETag or size counts.
    """

    __slots__ = (
        "allow_delete",
        "bucket",
        "contents",
        "inactivity_period",
        "min_objects",
        "prefix",
        "previous",
        "previous_keys",
    )

    def __init__(self, params: S3KeysUnchangedParams, namespace: str) -> None:
        key = coalescing_key("s3_keys_unchanged", namespace, params, params.bucket_name, params.prefix)
        super().__init__(params.account_ref, key, params.request_timeout)
        self.bucket = params.bucket_name
        self.prefix = params.prefix
        self.inactivity_period = params.inactivity_period
        self.min_objects = params.min_objects
        self.allow_delete = params.allow_delete
        self.contents = params.watch == "etag"
        hashes = {key_hash(name) for name in params.previous_objects}
        self.previous = key_set_digest(hashes)
        self.previous_keys = None if params.allow_delete else frozenset(map(short_hash, hashes))


class KeySetCache:
    """Caches the short hashes of key sets by digest. The least recently used are dropped first."""

    def __init__(self, max_keys: int = CACHED_KEYS) -> None:
        self._max_keys = max_keys
        self._keys = 0
        self._sets: OrderedDict[KeySetDigest, array[int]] = OrderedDict()

    def get(self, digest: KeySetDigest) -> Collection[int] | None:
        """Returns the short hashes of a set, if they are cached."""
        hashes = self._sets.get(digest)
        if hashes is not None:
            self._sets.move_to_end(digest)
        return hashes

    def put(self, digest: KeySetDigest, hashes: Collection[int]) -> None:
        """Caches a set, unless it is too large."""
        if digest in self._sets or len(hashes) > self._max_keys:
            return
        self._sets[digest] = array("Q", hashes)
        self._keys += len(hashes)
        while self._keys > self._max_keys:
            _, oldest = self._sets.popitem(last=False)
            self._keys -= len(oldest)


class S3KeysUnchangedProbe(Probe):
    """Pokes S3 for the keys with a prefix. The owner of the client starts and closes it."""

    #: The model of its parameters in the OpenAPI document.
    params_model = S3KeysUnchangedParams

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._cache = KeySetCache()

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> S3KeysUnchangedTarget:
        """Returns the target of these parameters.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        unchanged_params = parse_model(S3KeysUnchangedParams, dict(params))
        problems = [
            *account_problems(unchanged_params),
            *bucket_problems("/bucket_name", unchanged_params.bucket_name),
        ]
        keys = {
            f"/previous_objects/{index}": key for index, key in enumerate(unchanged_params.previous_objects)
        }
        for pointer, text in {"/prefix": unchanged_params.prefix, **keys}.items():
            try:
                check_key(text)
            except ValueError as error:
                problems.append(Problem(pointer, str(error)))
        if problems:
            raise InvalidInput(problems)
        return S3KeysUnchangedTarget(unchanged_params, namespace)

    def origin(self, target: S3KeysUnchangedTarget) -> str:
        """Returns the endpoint's origin if it is cached, else `connection <conn_id>`."""
        return self._client.endpoints.origin(target.account_ref)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Lists the keys once for waits with equal keys; returns a verdict for each, in order."""
        target: S3KeysUnchangedTarget = group[0].target
        with_hashes = any(not each.target.allow_delete for each in group)
        with_contents = any(each.target.contents for each in group)
        key_set = await self._client.endpoints.call(
            target.account_ref,
            lambda endpoint: self._list_keys(
                endpoint, target, with_hashes=with_hashes, with_contents=with_contents
            ),
        )
        if not isinstance(key_set, KeySet):
            return [key_set] * len(group)
        now = self._client.now()
        return [self._judge(each, key_set, now) for each in group]

    def _judge(self, pokeable: Pokeable, key_set: KeySet, now: float) -> Verdict:
        try:
            return self._verdict(pokeable.target, pokeable.progress.state, key_set, now)
        except Exception as error:  # noqa: BLE001 - a defect met in one wait is no other's
            return defect_verdict(error)

    async def _list_keys(
        self,
        endpoint: AwsEndpoint,
        target: S3KeysUnchangedTarget,
        *,
        with_hashes: bool,
        with_contents: bool,
    ) -> KeySet | Verdict | CredentialsRefused:
        hashes: list[int] = []
        times: list[float] = []
        contents = 0
        token: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.list_page(endpoint, target.bucket, target.prefix, token)
            if not isinstance(page, ListPage):
                return page
            hashes += (key_hash(each.key) for each in page.objects)
            times += (each.last_modified for each in page.objects)
            if with_contents:
                contents += sum(content_hash(each.key, each.etag, each.size) for each in page.objects)
            token = page.next_token
            if token is None:
                keys = tuple(zip(hashes, times, strict=True)) if with_hashes else ()
                seen = contents % CONTENTS_MODULUS if with_contents else None
                return KeySet(key_set_digest(hashes), keys, seen)
        return TOO_MANY_KEYS

    def _verdict(
        self, target: S3KeysUnchangedTarget, state: str | None, key_set: KeySet, now: float
    ) -> Verdict:
        """The verdict on a key set. `state` is the wait's stored state, `now` in Unix seconds."""
        try:
            before = None if state is None else RememberedKeySet.from_text(state)
            change = self._compare(target, before, key_set)
        except ValueError:  # another version of waitd stored it
            before, change = None, KeySetChange.UNCLEAR
        if change is KeySetChange.SHRUNK:
            return Failure(
                "objects_deleted", "Keys were deleted between two pokes, and allow_delete is false."
            )
        hashes = self._remember(target, key_set)
        contents = key_set.contents if target.contents else None
        size = key_set.digest.size
        if change is not KeySetChange.NONE:
            unclear = "; it is unknown whether some were deleted" if change is KeySetChange.UNCLEAR else ""
            message = f"The keys have changed: {size} at {rfc3339(now)}{unclear}."
            return Pending(
                "changed", message, RememberedKeySet(key_set.digest, now, hashes, contents).to_text()
            )
        since = now if before is None else min(before.since, now)
        unchanged = f"{size} keys, unchanged since {rfc3339(since)}"
        is_stored = before is not None and since == before.since
        new_state = None if is_stored else RememberedKeySet(key_set.digest, since, hashes, contents).to_text()
        if now - since < target.inactivity_period:
            return Pending("unchanged", f"{unchanged}.", new_state)
        if size < target.min_objects:
            message = f"{unchanged}, but min_objects is {target.min_objects}."
            return Pending("too_few_objects", message, new_state)
        return Success({"objects": size, "unchanged_since": rfc3339(since)}, "success", f"{unchanged}.")

    def _compare(
        self, target: S3KeysUnchangedTarget, before: RememberedKeySet | None, key_set: KeySet
    ) -> KeySetChange:
        digest, hashes = target.previous, target.previous_keys
        if before is not None:
            digest, hashes = before.digest, before.keys
        if target.allow_delete:
            change = KeySetChange.NONE if digest == key_set.digest else KeySetChange.GROWN
        else:
            known = hashes if hashes is not None else self._cache.get(digest)
            change = compare_key_sets(digest, known, key_set)
        rewritten = target.contents and before is not None and before.contents != key_set.contents
        return KeySetChange.REWRITTEN if rewritten and change is KeySetChange.NONE else change

    def _remember(self, target: S3KeysUnchangedTarget, key_set: KeySet) -> frozenset[int] | None:
        """The short hashes for the wait's state, if needed and few; more are cached in memory."""
        if target.allow_delete:
            return None
        if key_set.digest.size <= INLINE_KEYS:
            return key_set.short_hashes()
        if self._cache.get(key_set.digest) is None:
            self._cache.put(key_set.digest, key_set.short_hashes())
        return None
