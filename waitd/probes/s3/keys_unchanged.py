"""The kind `s3_keys_unchanged`: no key has come or gone below a prefix for a while."""

from array import array
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from waitd.core.aws.keys_unchanged import (
    INLINE_KEYS,
    KeySet,
    KeySetChange,
    KeySetDigest,
    RememberedKeySet,
    compare_key_sets,
    key_hash,
    key_set_digest,
    short_hash,
)
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.event import rfc3339
from waitd.core.waits.verdict import Failure, Pending, Success, Verdict
from waitd.models import parsed
from waitd.ports import Pokeable, Probe
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.access.aws_params import AwsTarget, account_problems, coalescing_key
from waitd.probes.s3.client import MAX_PAGES, TOO_MANY_KEYS, S3Client
from waitd.probes.s3.params import (
    MAX_KEY,
    S3KeysUnchangedParams,
    bucket_problems,
    check_text,
)
from waitd.probes.s3.xml import ListPage

#: How many keys' hashes, of 8 bytes, are kept of sets that are too large for the waits' own state.
CACHED_KEYS = 4 * 1024 * 1024


class S3KeysUnchangedTarget(AwsTarget):
    """What a wait of kind `s3_keys_unchanged` asks; `previous` is the digest of `previous_objects`, `previous_keys` their short hashes."""

    __slots__ = (
        "allow_delete",
        "bucket",
        "inactivity_period",
        "min_objects",
        "prefix",
        "previous",
        "previous_keys",
    )

    def __init__(self, given: S3KeysUnchangedParams, namespace: str) -> None:
        key = coalescing_key("s3_keys_unchanged", namespace, given, given.bucket_name, given.prefix)
        super().__init__(given.account_ref, key, given.request_timeout)
        self.bucket = given.bucket_name
        self.prefix = given.prefix
        self.inactivity_period = given.inactivity_period
        self.min_objects = given.min_objects
        self.allow_delete = given.allow_delete
        hashes = {key_hash(name) for name in given.previous_objects}
        self.previous = key_set_digest(hashes)
        self.previous_keys = None if given.allow_delete else frozenset(map(short_hash, hashes))


class KeySetCache:
    """The short hashes of the sets that were seen last, by digest, as long as the daemon lives and there is room; the oldest give way."""

    def __init__(self, most: int = CACHED_KEYS) -> None:
        self._most = most
        self._held = 0
        self._sets: OrderedDict[KeySetDigest, array[int]] = OrderedDict()

    def get(self, digest: KeySetDigest) -> Collection[int] | None:
        """The keys of that set, or None."""
        keys = self._sets.get(digest)
        if keys is not None:
            self._sets.move_to_end(digest)
        return keys

    def put(self, digest: KeySetDigest, keys: Collection[int]) -> None:
        """Keeps a set."""
        if digest in self._sets or len(keys) > self._most:
            return
        self._sets[digest] = array("Q", keys)
        self._held += len(keys)
        while self._held > self._most:
            _, oldest = self._sets.popitem(last=False)
            self._held -= len(oldest)


class S3KeysUnchangedProbe(Probe):
    """Watches prefixes. The client is started and closed by its owner."""

    #: What the API's document shows of its parameters.
    params_model = S3KeysUnchangedParams

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._known = KeySetCache()

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> S3KeysUnchangedTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        given = parsed(S3KeysUnchangedParams, dict(params))
        problems = [*account_problems(given), *bucket_problems("/bucket_name", given.bucket_name)]
        keys = {f"/previous_objects/{index}": key for index, key in enumerate(given.previous_objects)}
        for pointer, text in {"/prefix": given.prefix, **keys}.items():
            try:
                check_text(text, MAX_KEY)
            except ValueError as error:
                problems.append(Problem(pointer, str(error)))
        if problems:
            raise InvalidInput(problems)
        return S3KeysUnchangedTarget(given, namespace)

    def origin(self, target: S3KeysUnchangedTarget) -> str:
        """The endpoint's origin where it is known, else `connection <conn_id>`."""
        return self._client.endpoints.origin(target.account_ref)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        target: S3KeysUnchangedTarget = group[0].target
        keys = any(not each.target.allow_delete for each in group)
        seen = await self._client.endpoints.call(
            target.account_ref, lambda endpoint: self._list(endpoint, target, keys=keys)
        )
        if not isinstance(seen, KeySet):
            return [seen] * len(group)
        now = self._client.now()
        return [self._judged(each.target, each.progress.state, seen, now) for each in group]

    async def _list(
        self, endpoint: AwsEndpoint, target: S3KeysUnchangedTarget, *, keys: bool
    ) -> KeySet | Verdict | CredentialsRefused:
        hashes: list[int] = []
        moments: list[float] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.page(endpoint, target.bucket, target.prefix, token)
            if not isinstance(page, ListPage):
                return page
            hashes += (key_hash(file.key) for file in page.files)
            moments += (file.last_modified for file in page.files)
            token = page.next_token
            if token is None:
                return KeySet(
                    key_set_digest(hashes), tuple(zip(hashes, moments, strict=True)) if keys else ()
                )
        return TOO_MANY_KEYS

    def _judged(self, target: S3KeysUnchangedTarget, state: str | None, seen: KeySet, now: float) -> Verdict:
        try:
            before = None if state is None else RememberedKeySet.from_text(state)
            differs = self._change(target, before, seen)
        except ValueError:  # another version wrote it
            before, differs = None, KeySetChange.UNCLEAR
        if differs is KeySetChange.SHRUNK:
            return Failure(
                "objects_deleted", "Keys were deleted between two looks, and allow_delete is false."
            )
        keys = self._remember(target, seen)
        size = seen.digest.size
        if differs is not KeySetChange.NONE:
            unclear = "; whether some were deleted cannot be told" if differs is KeySetChange.UNCLEAR else ""
            message = f"Keys have changed: {size} at {rfc3339(now)}{unclear}."
            return Pending("changed", message, RememberedKeySet(seen.digest, now, keys).to_text())
        since = now if before is None else min(before.since, now)
        state = (
            None
            if before is not None and since == before.since
            else RememberedKeySet(seen.digest, since, keys).to_text()
        )
        if now - since < target.inactivity_period:
            return Pending("unchanged", f"{size} keys, unchanged since {rfc3339(since)}.", state)
        if size < target.min_objects:
            message = (
                f"Unchanged since {rfc3339(since)}, but {size} keys are fewer than {target.min_objects}."
            )
            return Pending("too_few_objects", message, state)
        payload = {"objects": size, "unchanged_since": rfc3339(since)}
        return Success(payload, "success", f"{size} keys, unchanged since {rfc3339(since)}.")

    def _change(
        self, target: S3KeysUnchangedTarget, before: RememberedKeySet | None, seen: KeySet
    ) -> KeySetChange:
        digest = target.previous if before is None else before.digest
        if target.allow_delete:
            return KeySetChange.NONE if digest == seen.digest else KeySetChange.GROWN
        return compare_key_sets(digest, self._keys_of(target, before), seen)

    def _keys_of(
        self, target: S3KeysUnchangedTarget, before: RememberedKeySet | None
    ) -> Collection[int] | None:
        if before is None:
            return target.previous_keys
        return before.keys if before.keys is not None else self._known.get(before.digest)

    def _remember(self, target: S3KeysUnchangedTarget, seen: KeySet) -> frozenset[int] | None:
        """The hashes for the state, where they are needed and fit; where they do not, they are kept in memory."""
        if target.allow_delete:
            return None
        if seen.digest.size <= INLINE_KEYS:
            return seen.short_hashes()
        if self._known.get(seen.digest) is None:
            self._known.put(seen.digest, seen.short_hashes())
        return None
