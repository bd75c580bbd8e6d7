"""`s3_key` with a real S3 server: each parameter, and keys that clients often encode wrongly."""

import re
from typing import Any

import pytest
import re2  # type: ignore[import-untyped]  # it ships no types
from moto_s3 import S3Server
from s3_pokes import keys_of, payload_of, poke, poke_key, s3_client

from waitd.core.waits.verdict import Failure, Pending, Success
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.s3.client import Bucket
from waitd.probes.s3.key import S3KeyProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

ODD_KEYS = [
    "a b", "a+b", "a%20b", "a%b", "100%", "ü/ñ", "/lead", "//lead", "a//b", "trail/", "x/../y", "x/./z", "..", ".", "dots...",
    "q?x", "h#x", "a&b=c", "star*", "br[x]", "~t", "emoji\U0001f600", "back\\slash", "tab\tx", "<&>", "a{b}", "a;b", "a:b@c,d$e!f'(g)",
    " begins with a space", "\u00e9 and e\u0301",
]  # fmt: skip


async def test_an_absent_key_is_pending_until_it_exists(s3: S3Server) -> None:
    bucket = s3.bucket()
    async with s3_client(s3.connection()) as client:
        probe = S3KeyProbe(client)
        [before] = await poke(probe, {"bucket_key": f"s3://{bucket}/dir/file.csv"})
        assert before == Pending("absent", "The key does not exist.")
        s3.put(bucket, "dir/file.csv")
        [after] = await poke(probe, {"bucket_key": f"s3://{bucket}/dir/file.csv"})
    assert after == Success([{"Size": 5, "Key": "dir/file.csv"}], "success", "The keys exist.")


async def test_the_payload_has_the_requested_metadata(s3: S3Server) -> None:
    bucket = s3.bucket("file")
    by_head = await poke_key(s3.connection(), bucket_key="file", bucket_name=bucket, metadata_keys=["*"])
    by_list = await poke_key(
        s3.connection(), bucket_key="f*", bucket_name=bucket, metadata_keys=["*"], wildcard_match=True
    )
    [file], [listed] = payload_of(by_head), payload_of(by_list)
    assert list(file)[:4] == ["Key", "Size", "LastModified", "ETag"]
    assert listed["StorageClass"] == "STANDARD"
    assert (file["Key"], file["Size"], file["ETag"]) == ("file", 5, '"827ccb0eea8a706c4c34a16891f84e7b"')
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", file["LastModified"])
    assert [listed[name] for name in ("Key", "Size", "ETag")] == [
        file[name] for name in ("Key", "Size", "ETag")
    ]
    only = await poke_key(s3.connection(), bucket_key="file", bucket_name=bucket, metadata_keys=["ETag"])
    assert payload_of(only) == [{"ETag": file["ETag"]}]


async def test_all_keys_of_a_list_must_exist(s3: S3Server) -> None:
    one, other = s3.bucket("a", "b"), s3.bucket()
    params = {"bucket_key": [f"s3://{one}/a", f"s3://{one}/b", f"s3://{other}/c"]}
    assert await poke_key(s3.connection(), **params) == Pending("absent", f"Missing: s3://{other}/c")
    s3.put(other, "c")
    assert keys_of(await poke_key(s3.connection(), **params)) == ["a", "b", "c"]


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_odd_key_matches_itself_and_no_similar_key(s3: S3Server, key: str) -> None:
    bucket = s3.bucket(key)
    async with s3_client(s3.connection()) as client:
        probe = S3KeyProbe(client)
        itself = {"bucket_name": bucket, "bucket_key": key}
        quoted = itself | {"bucket_key": re2.escape(key) + "$", "use_regex": True}
        for params in (itself, quoted, itself | {"bucket_key": "*", "wildcard_match": True}):
            assert keys_of((await poke(probe, params))[0]) == [key]
        for other in (key.strip("/") + "x", key + "/", "/" + key, key.replace("//", "/") + "\u0300"):
            assert isinstance((await poke(probe, {"bucket_name": bucket, "bucket_key": other}))[0], Pending)


@pytest.mark.parametrize(
    ("mode", "pattern", "expected"),
    [
        ("wildcard_match", "data/*.csv", ["data/2/c.csv", "data/a.csv", "data/b.csv"]),
        ("wildcard_match", "data/?.csv", ["data/a.csv", "data/b.csv"]),
        ("wildcard_match", "data/[!a].csv", ["data/b.csv"]),
        ("wildcard_match", "data/a.csv", ["data/a.csv"]),
        ("wildcard_match", "DATA/*", []),
        ("use_regex", r"data/[ab]\.csv", ["data/a.csv", "data/b.csv"]),
        ("use_regex", r"data/a", ["data/a.csv"]),
        ("use_regex", r"a\.csv", []),
        ("use_regex", r".*/[bc]\.csv$", ["data/2/c.csv", "data/b.csv"]),
    ],
)
async def test_a_pattern_matches_these_keys_only(
    s3: S3Server, mode: str, pattern: str, expected: list[str]
) -> None:
    bucket = s3.bucket("data/a.csv", "data/b.csv", "data/2/c.csv", "data/d.txt", "other/a.csv")
    verdict = await poke_key(s3.connection(), bucket_name=bucket, bucket_key=pattern, **{mode: True})
    if expected:
        assert keys_of(verdict) == expected
    else:
        assert verdict == Pending("absent", "No key matches.")


async def test_a_prefix_with_3000_keys_is_read_page_by_page(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, *(f"many/{n:04}" for n in range(3000)), "z/last")
    last = await poke_key(s3.connection(), bucket_name=bucket, bucket_key="many/*999", wildcard_match=True)
    assert keys_of(last) == ["many/0999", "many/1999", "many/2999"]
    for check in ("size(files) == 3000", "files.all(f, f.Size == 5)"):
        checked = await poke_key(
            s3.connection(), bucket_name=bucket, bucket_key="many/*", wildcard_match=True, check=check
        )
        assert checked == Success(None, "result_omitted", "The keys exist.")


CHECKS: list[tuple[str, bool, str]] = [
    ("files.exists(f, f.Size > 4)", True, ""),
    ("files.exists(f, f.Size > 5)", False, "it is false"),
    ("size(files) == 2 && files.all(f, f.Key.endsWith('.csv'))", True, ""),
    ("files[0].ETag != ''", False, "Key not found in map"),
    ("files[0].Size", False, "it is not a boolean"),
]


@pytest.mark.parametrize(("check", "is_true", "message"), CHECKS)
async def test_a_check_is_evaluated_on_the_matching_files(
    s3: S3Server, check: str, is_true: bool, message: str
) -> None:
    bucket = s3.bucket("d/a.csv", "d/b.csv", "d/c.txt")
    verdict = await poke_key(
        s3.connection(), bucket_key=f"s3://{bucket}/d/*.csv", wildcard_match=True, check=check
    )
    if is_true:
        assert keys_of(verdict) == ["d/a.csv", "d/b.csv"]
    else:
        assert (type(verdict), verdict.reason) == (Pending, "check")
        assert message in verdict.message


async def test_a_check_is_evaluated_for_each_key_of_a_list(s3: S3Server) -> None:
    bucket = s3.bucket("a", "b")
    params: dict[str, Any] = {"bucket_name": bucket, "bucket_key": ["a", "b"]}
    assert keys_of(await poke_key(s3.connection(), **params, check="size(files) == 1")) == ["a", "b"]
    assert isinstance(await poke_key(s3.connection(), **params, check="files[0].Key == 'a'"), Pending)


async def test_a_check_can_compare_times(s3: S3Server) -> None:
    bucket = s3.bucket("a")
    check = "timestamp(files[0].LastModified) > timestamp('2020-01-01T00:00:00Z')"
    verdict = await poke_key(
        s3.connection(), bucket_key=f"s3://{bucket}/a", check=check, metadata_keys=["LastModified"]
    )
    assert isinstance(verdict, Success)


async def test_equal_waits_share_a_poke_and_each_has_its_own_check(s3: S3Server) -> None:
    bucket = s3.bucket("a")
    wait = {"bucket_key": f"s3://{bucket}/a"}
    async with s3_client(s3.connection()) as client:
        one, two, three = await poke(
            S3KeyProbe(client),
            wait,
            wait | {"check": "files[0].Size > 9"},
            wait | {"metadata_keys": ["Size"]},
        )
    assert keys_of(one) == ["a"]
    assert isinstance(two, Pending)
    assert payload_of(three) == [{"Size": 5}]


async def test_a_missing_bucket_fails_the_wait_unless_silenced(s3: S3Server) -> None:
    missing = Failure("no_such_bucket", "The bucket does not exist.", silenceable=True)
    assert await poke_key(s3.connection(), bucket_key="s3://there-is-none/a") == missing
    assert await poke_key(s3.connection(), bucket_key="s3://there-is-none/a*", wildcard_match=True) == missing


async def test_the_credentials_may_come_from_the_environment(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket("a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    verdict = await poke_key(
        AssertionError("no connection is looked up"), bucket_key=f"s3://{bucket}/a", aws_conn_id=None
    )
    assert keys_of(verdict) == ["a"]


@pytest.mark.parametrize(
    ("base", "style", "bucket", "url"),
    [
        (None, "auto", "bucket", "https://bucket.s3.eu-west-1.amazonaws.com/a%20b"),
        (None, "path", "bucket", "https://s3.eu-west-1.amazonaws.com/bucket/a%20b"),
        (None, "auto", "dotted.bucket", "https://s3.eu-west-1.amazonaws.com/dotted.bucket/a%20b"),
        (None, "virtual", "Old_Bucket", "https://s3.eu-west-1.amazonaws.com/Old_Bucket/a%20b"),
        ("http://minio:9000", "auto", "bucket", "http://minio:9000/bucket/a%20b"),
        ("http://minio:9000", "virtual", "bucket", "http://bucket.minio:9000/a%20b"),
        ("https://gate.example/s3", "auto", "bucket", "https://gate.example/s3/bucket/a%20b"),
        ("https://gate.example/s3", "virtual", "bucket", "https://bucket.gate.example/s3/a%20b"),
    ],
)
def test_a_bucket_is_in_the_host_or_in_the_path_as_in_boto3(
    base: str | None, style: str, bucket: str, url: str
) -> None:
    endpoint = AwsEndpoint(base, "", "eu-west-1", style, None, verify_tls=True)
    addressed = Bucket(endpoint, "eu-west-1", bucket)
    assert addressed.origin + addressed.path("a b") == url
    assert (addressed.origin + addressed.path("")).rstrip("/") == url.removesuffix("/a%20b")
