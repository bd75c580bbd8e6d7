"""`s3_keys_unchanged` with a real S3 server, and over restarts that keep only the stored state."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from moto_s3 import S3Server
from raw_server import Poked, raw_server
from s3_pokes import aws, listed, poke, s3_client

from waitd.core.aws.keys_unchanged import INLINE_KEYS, KeySetDigest
from waitd.core.waits.event import rfc3339
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import Progress
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.keys_unchanged import KeySetCache, S3KeysUnchangedProbe

START = 1_795_000_000.0


class Watch:
    """One wait with its clock and its stored state, which is all that `restart` keeps."""

    def __init__(self, client: S3Client, clock: list[float], params: dict[str, Any]) -> None:
        self._client = client
        self._clock = clock
        self._params = params
        self.state: str | None = None
        self.states = 0
        self.restart()

    def restart(self) -> None:
        self.probe = S3KeysUnchangedProbe(self._client)

    async def at(self, seconds: float) -> Verdict:
        """The verdict of a poke at this time after the start."""
        self._clock[0] = START + seconds
        [verdict] = await poke(self.probe, self._params, progress=Progress(state=self.state))
        if isinstance(verdict, Pending) and verdict.state is not None:
            assert len(verdict.state) <= 1024
            self.state = verdict.state
            self.states += 1
        return verdict


@asynccontextmanager
async def watching(s3: S3Server, bucket: str, prefix: str = "d/", **params: Any) -> AsyncIterator[Watch]:
    clock = [START]
    async with s3_client(s3.connection(), now=lambda: clock[0]) as client:
        yield Watch(client, clock, {"bucket_name": bucket, "prefix": prefix, **params})


async def test_keys_that_stay_the_same_for_long_enough_are_a_success(s3: S3Server) -> None:
    bucket = s3.bucket("d/a", "other")
    async with watching(s3, bucket, inactivity_period=100) as wait:
        assert (await wait.at(0)).reason == "changed"
        assert (await wait.at(60)).reason == "unchanged"
        s3.put(bucket, "other2")
        s3.put(bucket, "d/b")
        assert (await wait.at(99)).reason == "changed"
        assert (await wait.at(198)).reason == "unchanged"
        done = await wait.at(199)
    since = rfc3339(START + 99)
    assert done == Success(
        {"objects": 2, "unchanged_since": since}, "success", f"2 keys, unchanged since {since}."
    )
    assert wait.states == 2


async def test_an_hour_is_the_default(s3: S3Server) -> None:
    async with watching(s3, s3.bucket("d/a")) as wait:
        await wait.at(0)
        assert (await wait.at(3599)).reason == "unchanged"
        assert (await wait.at(3600)).reason == "success"


async def test_an_overwritten_key_is_not_a_new_key(s3: S3Server) -> None:
    bucket = s3.bucket("d/a")
    async with watching(s3, bucket, inactivity_period=10, allow_delete=False) as wait:
        await wait.at(0)
        s3.put(bucket, "d/a")
        assert (await wait.at(10)).reason == "success"


@pytest.mark.parametrize("allow_delete", [True, False])
@pytest.mark.parametrize("body", [b"123456", b"54321"], ids=["another size", "the same size"])
async def test_an_overwritten_key_restarts_the_period_if_etags_are_watched(
    s3: S3Server, allow_delete: bool, body: bytes
) -> None:
    bucket = s3.bucket("d/a", "d/b")
    async with watching(s3, bucket, inactivity_period=10, allow_delete=allow_delete, watch="etag") as wait:
        assert (await wait.at(0)).reason == "changed"
        s3.put(bucket, "d/a")
        assert (await wait.at(5)).reason == "unchanged"
        s3.s3.put_object(Bucket=bucket, Key="d/b", Body=body)
        wait.restart()
        assert (await wait.at(9)).reason == "changed"
        assert (await wait.at(18)).reason == "unchanged"
        assert (await wait.at(19)).reason == "success"


async def test_two_keys_that_swap_their_contents_are_a_change(s3: S3Server) -> None:
    bucket = s3.bucket("d/a")
    s3.s3.put_object(Bucket=bucket, Key="d/b", Body=b"54321")
    async with watching(s3, bucket, inactivity_period=10, watch="etag") as wait:
        await wait.at(0)
        s3.s3.put_object(Bucket=bucket, Key="d/a", Body=b"54321")
        s3.put(bucket, "d/b")
        assert (await wait.at(10)).reason == "changed"


async def test_a_deleted_key_fails_a_wait_that_watches_etags(s3: S3Server) -> None:
    bucket = s3.bucket("d/a", "d/b")
    async with watching(s3, bucket, allow_delete=False, watch="etag") as wait:
        await wait.at(0)
        s3.s3.put_object(Bucket=bucket, Key="d/a", Body=b"new")
        s3.delete(bucket, "d/b")
        assert (await wait.at(1)).reason == "objects_deleted"


async def test_waits_that_watch_and_do_not_watch_etags_share_a_list(s3: S3Server) -> None:
    bucket = s3.bucket("d/a")
    params = {"bucket_name": bucket, "prefix": "d/", "inactivity_period": 0}
    async with s3_client(s3.connection()) as client:
        probe = S3KeysUnchangedProbe(client)
        targets = [probe.parse({**params, **more}, namespace="n") for more in ({}, {"watch": "etag"})]
        assert targets[0].key == targets[1].key
        before = await probe.poke([Poked(target) for target in targets])
        states = [verdict.state for verdict in before if isinstance(verdict, Pending)]
        s3.s3.put_object(Bucket=bucket, Key="d/a", Body=b"new")
        after = await probe.poke(
            [Poked(each, Progress(state=state)) for each, state in zip(targets, states, strict=True)]
        )
    assert [verdict.reason for verdict in after] == ["success", "changed"]


async def test_too_few_keys_are_pending(s3: S3Server) -> None:
    bucket = s3.bucket()
    async with watching(s3, bucket, inactivity_period=10, min_objects=2) as wait:
        assert (await wait.at(0)).reason == "unchanged"
        assert (await wait.at(10)).reason == "too_few_objects"
        s3.put(bucket, "d/a", "d/b")
        assert (await wait.at(20)).reason == "changed"
        assert (await wait.at(30)).reason == "success"


async def test_no_keys_are_enough_if_min_objects_is_0(s3: S3Server) -> None:
    async with watching(s3, s3.bucket(), inactivity_period=0, min_objects=0) as wait:
        assert (await wait.at(0)).reason == "success"


async def test_previous_objects_are_the_first_set_to_compare_with(s3: S3Server) -> None:
    bucket = s3.bucket("d/a", "d/b")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"previous_objects": ["d/a", "d/b"], "inactivity_period": 0}, "success"),
        ({"previous_objects": ["d/a", "d/c"], "inactivity_period": 0}, "changed"),
        ({"previous_objects": ["d/a", "d/c"], "allow_delete": False}, "objects_deleted"),
        ({"previous_objects": ["d/a"], "allow_delete": False}, "changed"),
    ]
    for params, reason in cases:
        async with watching(s3, bucket, **params) as wait:
            assert (await wait.at(0)).reason == reason


async def test_an_allowed_deletion_restarts_the_period(s3: S3Server) -> None:
    bucket = s3.bucket("d/a", "d/b")
    async with watching(s3, bucket, inactivity_period=10) as wait:
        await wait.at(0)
        s3.delete(bucket, "d/a")
        assert (await wait.at(10)).reason == "changed"
        assert (await wait.at(20)).reason == "success"


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("keys", [5, INLINE_KEYS, INLINE_KEYS + 1, 300])
@pytest.mark.parametrize(
    ("deleted", "added", "expected"),
    [
        (0, 0, "success"),
        (1, 0, "objects_deleted"),
        (1, 1, "objects_deleted"),
        (2, 1, "objects_deleted"),
        (0, 1, "changed"),
        (0, 7, "changed"),
    ],
)
async def test_deletions_and_additions_are_distinguished_also_over_a_restart(
    s3: S3Server, restarted: bool, keys: int, deleted: int, added: int, expected: str
) -> None:
    bucket = s3.bucket()
    names = [f"d/{n:04}" for n in range(keys)]
    s3.put(bucket, *names)
    s3.age(bucket)
    async with watching(s3, bucket, inactivity_period=10, allow_delete=False) as wait:
        assert (await wait.at(0)).reason == "changed"
        assert (await wait.at(5)).reason == "unchanged"
        s3.delete(bucket, *names[:deleted])
        s3.put(bucket, *(f"d/new{n}" for n in range(added)))
        if restarted:
            wait.restart()
        verdict = await wait.at(10)
    assert verdict.reason == expected
    if expected == "objects_deleted":
        assert isinstance(verdict, Failure)
        assert not verdict.silenceable


async def test_a_small_set_is_stored_key_by_key(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, *(f"d/{n}" for n in range(INLINE_KEYS)))
    async with watching(s3, bucket, allow_delete=False) as wait:
        await wait.at(0)
        s3.delete(bucket, "d/0")
        s3.put(bucket, "d/x", "d/y", "d/z")
        wait.restart()
        assert (await wait.at(5)).reason == "objects_deleted"


async def test_an_unclear_change_after_a_restart_fails_no_wait(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, *(f"d/{n}" for n in range(INLINE_KEYS + 1)))
    for restarted, expected in ((False, "objects_deleted"), (True, "changed")):
        async with watching(s3, bucket, inactivity_period=10, allow_delete=False) as wait:
            await wait.at(0)
            s3.delete(bucket, "d/0")
            s3.put(bucket, "d/x", "d/y", "d/z")
            if restarted:
                wait.restart()
            verdict = await wait.at(5)
            assert verdict.reason == expected
        s3.delete(bucket, "d/x", "d/y", "d/z")
        s3.put(bucket, "d/0")
    assert "it is unknown whether" in verdict.message


async def test_the_period_continues_over_a_restart(s3: S3Server) -> None:
    async with watching(s3, s3.bucket("d/a"), inactivity_period=1000) as wait:
        await wait.at(0)
        wait.restart()
        assert (await wait.at(999)).reason == "unchanged"
        wait.restart()
        assert (await wait.at(1000)).reason == "success"


async def test_a_clock_that_goes_back_never_shortens_the_period(s3: S3Server) -> None:
    async with watching(s3, s3.bucket("d/a"), inactivity_period=100) as wait:
        await wait.at(0)
        assert (await wait.at(-500)).reason == "unchanged"
        assert (await wait.at(-401)).reason == "unchanged"
        assert (await wait.at(-400)).reason == "success"


async def test_an_unchanged_set_writes_no_state(s3: S3Server) -> None:
    async with watching(s3, s3.bucket("d/a"), allow_delete=False) as wait:
        for seconds in range(0, 100, 10):
            await wait.at(seconds)
    assert wait.states == 1


async def test_waits_that_share_a_poke_have_states_of_their_own(s3: S3Server) -> None:
    bucket = s3.bucket("d/a")
    params = {"bucket_name": bucket, "prefix": "d/"}
    async with s3_client(s3.connection()) as client:
        one, other = await poke(
            S3KeysUnchangedProbe(client),
            params | {"previous_objects": ["d/a"], "inactivity_period": 0},
            params | {"previous_objects": ["d/b"], "allow_delete": False},
        )
    assert isinstance(one, Success)
    assert isinstance(other, Failure)


async def test_a_missing_bucket_fails_and_an_outage_does_not(s3: S3Server) -> None:
    async with watching(s3, "there-is-none") as wait:
        assert (await wait.at(0)).reason == "no_such_bucket"
    endless = listed("d/x", more="<NextContinuationToken>t</NextContinuationToken>")
    async with raw_server([endless]) as server, s3_client(aws(server.url)) as client:
        [many] = await poke(S3KeysUnchangedProbe(client), {"bucket_name": "bucket", "prefix": "d/"})
    assert (type(many), many.reason) == (Unreachable, "too_many_keys")


async def test_an_unreadable_state_restarts_the_period_and_fails_no_wait(s3: S3Server) -> None:
    async with watching(
        s3, s3.bucket("d/a"), previous_objects=["d/b"], allow_delete=False, inactivity_period=10
    ) as wait:
        wait.state = "{}"
        verdict = await wait.at(0)
        assert verdict.reason == "changed"
        assert "it is unknown whether" in verdict.message
        assert (await wait.at(10)).reason == "success"


def test_the_cache_of_key_sets_is_bounded() -> None:
    cache = KeySetCache(max_keys=10)
    cache.put(KeySetDigest(4, 1), range(4))
    cache.put(KeySetDigest(4, 2), range(4))
    assert cache.get(KeySetDigest(4, 1)) is not None
    cache.put(KeySetDigest(4, 3), range(4))
    assert cache.get(KeySetDigest(4, 2)) is None
    assert set(cache.get(KeySetDigest(4, 1)) or ()) == set(range(4))
    cache.put(KeySetDigest(11, 4), range(11))
    assert cache.get(KeySetDigest(11, 4)) is None
