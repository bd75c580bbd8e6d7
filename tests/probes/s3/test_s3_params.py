"""The parameters of the kinds of S3, their errors, and which waits share a poke."""

from collections import Counter
from typing import Any

import pytest
from s3_pokes import s3_client

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.models import parse_model
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe
from waitd.probes.s3.params import MAX_SHARERS, S3KeyParams, S3KeysUnchangedParams, S3KeyTarget, key_target


def target(**params: Any) -> S3KeyTarget:
    return key_target(params, namespace="default")


@pytest.mark.parametrize(
    ("params", "addresses"),
    [
        ({"bucket_key": "s3://bucket/a/b"}, [("bucket", "a/b")]),
        ({"bucket_key": "S3://bucket//a"}, [("bucket", "a")]),
        ({"bucket_key": "s3a://bucket/a?b#c"}, [("bucket", "a?b#c")]),
        ({"bucket_key": "s3n://b.u-c.k/a\nb"}, [("b.u-c.k", "a\nb")]),
        ({"bucket_key": "/a:b", "bucket_name": "bucket"}, [("bucket", "/a:b")]),
        ({"bucket_key": ["s3://one/a", "s3://two/a", "s3://one/a"]}, [("one", "a"), ("two", "a")]),
    ],
)
def test_keys_are_read_as_airflow_reads_them(
    params: dict[str, Any], addresses: list[tuple[str, str]]
) -> None:
    assert target(**params).addresses == tuple(addresses)


@pytest.mark.parametrize(
    ("params", "pointer", "words"),
    [
        ({}, "/bucket_key", "required"),
        ({"bucket_key": 5}, "/bucket_key", "list"),
        ({"bucket_key": []}, "/bucket_key", "at least 1"),
        ({"bucket_key": ["a"] * 101, "bucket_name": "bucket"}, "/bucket_key", "at most 100"),
        ({"bucket_key": "a/b"}, "/bucket_key", "s3://bucket/key"),
        ({"bucket_key": "s3:///a"}, "/bucket_key", "the bucket in the URL is not a valid name"),
        ({"bucket_key": "s3://bucket/"}, "/bucket_key", "key is missing"),
        ({"bucket_key": "s3://../secret/a"}, "/bucket_key", "the bucket in the URL is not a valid name"),
        ({"bucket_key": ["s3://bucket/a", "b"]}, "/bucket_key/1", "s3://bucket/key"),
        ({"bucket_key": "s3://bucket/a", "bucket_name": "bucket"}, "/bucket_key", "must be a key"),
        ({"bucket_key": "a", "bucket_name": "a/b"}, "/bucket_name", "letters"),
        ({"bucket_key": "a", "bucket_name": "a..b"}, "/bucket_name", "letters"),
        ({"bucket_key": "a" * 1025, "bucket_name": "bucket"}, "/bucket_key", "1025 bytes"),
        ({"bucket_key": "\ud800", "bucket_name": "bucket"}, "/bucket_key", "Unicode"),
        (
            {"bucket_key": "s3://bucket/(?=a)", "use_regex": True},
            "/bucket_key",
            "the pattern is not valid in RE2",
        ),
        ({"bucket_key": ["s3://bucket/a", "s3://bucket/("], "use_regex": True}, "/bucket_key/1", "RE2"),
        (
            {"bucket_key": "s3://bucket/a", "use_regex": True, "wildcard_match": True},
            "/use_regex",
            "exclude each other",
        ),
        ({"bucket_key": "s3://bucket/a", "check": "files.Size > 1"}, "/check", "1:6"),
        ({"bucket_key": "s3://bucket/a", "check": "size(files)"}, "/check", "it must evaluate to BOOL"),
        ({"bucket_key": "s3://bucket/a", "check": "status == 200"}, "/check", "1:1"),
        ({"bucket_key": "s3://bucket/a", "metadata_keys": ["Colour"]}, "/metadata_keys/0", "LastModified"),
        ({"bucket_key": "s3://bucket/a", "region_name": "eu.evil.example"}, "/region_name", "region"),
        ({"bucket_key": "s3://bucket/a", "aws_conn_id": "a b"}, "/aws_conn_id", "letters"),
        ({"bucket_key": "s3://bucket/a", "request_timeout": 0}, "/request_timeout", "greater than 0"),
        ({"bucket_key": "s3://bucket/a", "check_fn": "x"}, "/check_fn", "check"),
        ({"bucket_key": "s3://bucket/a", "wildcard_match": 1}, "/wildcard_match", "bool"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_pointer(
    params: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        target(**params)
    assert [(p.pointer, words in p.detail) for p in caught.value.problems] == [(pointer, True)], caught.value


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"prefix": ""}, "/bucket_name"),
        ({"bucket_name": "bucket"}, "/prefix"),
        ({"bucket_name": "b/c", "prefix": ""}, "/bucket_name"),
        ({"bucket_name": "bucket", "prefix": "a" * 1025}, "/prefix"),
        ({"bucket_name": "bucket", "prefix": "", "inactivity_period": -1}, "/inactivity_period"),
        ({"bucket_name": "bucket", "prefix": "", "min_objects": -1}, "/min_objects"),
        ({"bucket_name": "bucket", "prefix": "", "min_objects": True}, "/min_objects"),
        ({"bucket_name": "bucket", "prefix": "", "previous_objects": ["a", "\ud800"]}, "/previous_objects/1"),
    ],
)
async def test_a_wrong_parameter_of_keys_unchanged_is_refused_with_its_pointer(
    params: dict[str, Any], pointer: str
) -> None:
    async with s3_client() as client:
        with pytest.raises(InvalidInput) as caught:
            S3KeysUnchangedProbe(client).parse(params, namespace="default")
    assert [p.pointer for p in caught.value.problems] == [pointer]


def test_a_wait_names_a_connection_only_if_its_params_do() -> None:
    url = {"bucket_key": "s3://bucket/a"}
    assert target(**url).conn_id is None
    assert target(**url, aws_conn_id=None).conn_id is None
    assert target(**url, aws_conn_id="").conn_id is None
    assert target(**url, aws_conn_id="aws_default").conn_id == "aws_default"


async def test_waits_with_equal_requests_have_equal_coalescing_keys() -> None:
    url = {"bucket_key": "s3://bucket/a"}
    same = [target(**url), target(bucket_key=["a"], bucket_name="bucket"), target(**url, check="size(files) > 0", metadata_keys=["ETag"])]  # fmt: skip
    assert len({each.key for each in same}) == 1
    async with s3_client() as client:
        unchanged = S3KeysUnchangedProbe(client).parse(
            {"bucket_name": "bucket", "prefix": "a"}, namespace="default"
        )
    others = [
        *(target(**url, **more) for more in ({"wildcard_match": True}, {"aws_conn_id": "x"})),
        *(
            target(**url, **more)
            for more in ({"aws_conn_id": None}, {"region_name": "x"}, {"request_timeout": 5.0})
        ),
        target(bucket_key="s3://bucket/b"),
        target(bucket_key="s3://tucket/a"),
        key_target(url, namespace="other"),
        unchanged,
    ]
    assert len({each.key for each in (same[0], *others)}) == 1 + len(others)


def test_patterns_with_the_same_prefix_have_equal_coalescing_keys() -> None:
    def pattern(*keys: str, **more: Any) -> S3KeyTarget:
        return target(bucket_key=[f"s3://bucket/{key}" for key in keys], **({"wildcard_match": True} | more))

    regex = {"wildcard_match": False, "use_regex": True}
    shared = [pattern("in/a*"), pattern("in/a?"), pattern("in/a*", check="true"), pattern("in/a[0-9]", **regex), pattern("in/a", "in/a?")]  # fmt: skip
    assert len({each.key for each in shared}) == 1
    others = [pattern("in/b*"), pattern("in/*"), pattern("in/a*", "in/b*"), pattern("*"), pattern("in/a*", aws_conn_id="x"), target(bucket_key="s3://bucket/in/a")]  # fmt: skip
    assert len({each.key for each in (shared[0], *others)}) == 1 + len(others)


def test_a_limited_number_of_different_patterns_share_a_key() -> None:
    def pattern(n: int) -> S3KeyTarget:
        return target(bucket_key=f"s3://crowded/in/*{n}", wildcard_match=True)

    waits = [pattern(n) for n in range(2 * MAX_SHARERS)]
    sizes = Counter(wait.key for wait in waits)
    assert [*sizes.values()] == [MAX_SHARERS, MAX_SHARERS]
    assert {pattern(n).key for n in range(MAX_SHARERS, 2 * MAX_SHARERS)} == {waits[-1].key}
    assert pattern(2 * MAX_SHARERS).key not in sizes
    first = str(waits[0].key)
    del waits, sizes
    assert pattern(-1).key == first  # no wait with this prefix is left


async def test_the_origin_is_the_connection_until_the_endpoint_is_known() -> None:
    connection = Connection(
        "aws_default", "aws", login="a", password="b", extra={"region_name": "cn-north-1"}
    )
    async with s3_client(connection) as client:
        probe = S3KeyProbe(client)
        [one, two] = [probe.parse({"bucket_key": f"s3://bucket/{key}"}, namespace="d") for key in "ab"]
        assert probe.origin(one) == "connection aws_default"
        await client.endpoints.get(one.account_ref)
        assert probe.origin(two) == "https://s3.cn-north-1.amazonaws.com.cn"


def test_targets_share_their_equal_parts() -> None:
    one, two = target(bucket_key="s3://bucket/a"), target(bucket_key="s3://bucket/b")
    assert one.options is two.options
    assert one.addresses[0][0] is two.addresses[0][0]


def test_null_and_empty_are_the_default_as_in_airflow() -> None:
    key = {"bucket_key": "s3://b/k"}
    empty = {"metadata_keys": None, "check": "", "bucket_name": None}
    assert parse_model(S3KeyParams, key | empty) == parse_model(S3KeyParams, key)
    period = {"bucket_name": "b", "prefix": "p"}
    with_null = parse_model(S3KeysUnchangedParams, period | {"previous_objects": None})
    assert with_null == parse_model(S3KeysUnchangedParams, period)
