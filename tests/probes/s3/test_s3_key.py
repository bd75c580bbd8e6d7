"""`s3_key` against a real S3 server: each argument, and the keys that clients get wrong."""

import re
from typing import Any

import pytest
from moto_s3 import S3Server
from s3_looks import look, look_for, s3_client

from waitd.core.waits.verdict import Failure, Pending, Success, Verdict
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.s3.client import Bucket
from waitd.probes.s3.key import S3KeyProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

ODD_KEYS = [
    "a b", "a+b", "a%20b", "a%b", "100%", "ü/ñ", "/lead", "//lead", "a//b", "trail/", "x/../y", "x/./z", "..", ".", "dots...",
    "q?x", "h#x", "a&b=c", "star*", "br[x]", "~t", "emoji\U0001f600", "back\\slash", "tab\tx", "<&>", "a{b}", "a;b", "a:b@c,d$e!f'(g)",
    " begins with a space", "\u00e9 and e\u0301",
]  # fmt: skip


def keys_of(verdict: Verdict) -> list[str]:
    assert isinstance(verdict, Success), verdict
    return [file["Key"] for file in verdict.payload]


async def test_a_key_that_is_not_there_is_pending_until_it_is(s3: S3Server) -> None:
    bucket = s3.bucket()
    async with s3_client(s3.connection()) as client:
        probe = S3KeyProbe(client)
        [before] = await look(probe, {"bucket_key": f"s3://{bucket}/dir/file.csv"})
        assert before == Pending("absent", "The key does not exist.")
        s3.put(bucket, "dir/file.csv")
        [after] = await look(probe, {"bucket_key": f"s3://{bucket}/dir/file.csv"})
    assert after == Success([{"Size": 5, "Key": "dir/file.csv"}], "success", "The keys exist.")


async def test_every_piece_of_metadata_is_shown_that_is_asked_for(s3: S3Server) -> None:
    bucket = s3.bucket("file")
    plain = await look_for(s3.connection(), bucket_key="file", bucket_name=bucket, metadata_keys=["*"])
    listed = await look_for(
        s3.connection(), bucket_key="f*", bucket_name=bucket, metadata_keys=["*"], wildcard_match=True
    )
    assert isinstance(plain, Success)
    assert isinstance(listed, Success)
    [file] = plain.payload
    assert list(file) == ["Key", "Size", "LastModified", "ETag"]
    assert (file["Key"], file["Size"], file["ETag"]) == ("file", 5, '"827ccb0eea8a706c4c34a16891f84e7b"')
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", file["LastModified"])
    assert listed.payload[0] | {"LastModified": ""} == file | {"LastModified": ""}
    only = await look_for(s3.connection(), bucket_key="file", bucket_name=bucket, metadata_keys=["ETag"])
    assert isinstance(only, Success)
    assert only.payload == [{"ETag": file["ETag"]}]


async def test_of_several_keys_all_must_be_there(s3: S3Server) -> None:
    one, other = s3.bucket("a", "b"), s3.bucket()
    wanted = {"bucket_key": [f"s3://{one}/a", f"s3://{one}/b", f"s3://{other}/c"]}
    assert await look_for(s3.connection(), **wanted) == Pending("absent", f"Missing: s3://{other}/c")
    s3.put(other, "c")
    assert keys_of(await look_for(s3.connection(), **wanted)) == ["a", "b", "c"]


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_odd_key_is_found_as_it_is_and_no_other_is(s3: S3Server, key: str) -> None:
    bucket = s3.bucket(key)
    import re2  # type: ignore[import-untyped]

    async with s3_client(s3.connection()) as client:
        probe = S3KeyProbe(client)
        [head] = await look(probe, {"bucket_name": bucket, "bucket_key": key})
        assert keys_of(head) == [key]
        quoted = {"bucket_name": bucket, "bucket_key": re2.escape(key) + "$", "use_regex": True}
        assert keys_of((await look(probe, quoted))[0]) == [key]
        assert keys_of(
            (await look(probe, {"bucket_name": bucket, "bucket_key": "*", "wildcard_match": True}))[0]
        ) == [key]
        for other in (key.strip("/") + "x", key + "/", "/" + key, key.replace("//", "/") + "\u0300"):
            assert isinstance((await look(probe, {"bucket_name": bucket, "bucket_key": other}))[0], Pending)


@pytest.mark.parametrize(
    ("mode", "pattern", "wanted"),
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
async def test_a_pattern_sees_exactly_what_it_matches(
    s3: S3Server, mode: str, pattern: str, wanted: list[str]
) -> None:
    bucket = s3.bucket("data/a.csv", "data/b.csv", "data/2/c.csv", "data/d.txt", "other/a.csv")
    found = await look_for(s3.connection(), bucket_name=bucket, bucket_key=pattern, **{mode: True})
    if wanted:
        assert keys_of(found) == wanted
    else:
        assert found == Pending("absent", "No key matches.")


async def test_a_prefix_with_3000_keys_is_read_page_by_page(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, *(f"many/{n:04}" for n in range(3000)), "z/last")
    last = await look_for(s3.connection(), bucket_name=bucket, bucket_key="many/*999", wildcard_match=True)
    assert keys_of(last) == ["many/0999", "many/1999", "many/2999"]
    counted = await look_for(
        s3.connection(),
        bucket_name=bucket,
        bucket_key="many/*",
        wildcard_match=True,
        check="size(files) == 3000",
    )
    assert counted == Success(None, "result_omitted", "The keys exist.")
    looped = await look_for(
        s3.connection(),
        bucket_name=bucket,
        bucket_key="many/*",
        wildcard_match=True,
        check="files.all(f, f.Size == 5)",
    )
    assert looped == Success(None, "result_omitted", "The keys exist.")


CHECKS: list[tuple[str, bool, str]] = [
    ("files.exists(f, f.Size > 4)", True, ""),
    ("files.exists(f, f.Size > 5)", False, "it is false"),
    ("size(files) == 2 && files.all(f, f.Key.endsWith('.csv'))", True, ""),
    ("files[0].ETag != ''", False, "Key not found in map"),
    ("files[0].Size", False, "it is not a boolean"),
]


@pytest.mark.parametrize(("check", "true", "told"), CHECKS)
async def test_a_check_decides_over_the_files_that_matched(
    s3: S3Server, check: str, true: bool, told: str
) -> None:
    bucket = s3.bucket("d/a.csv", "d/b.csv", "d/c.txt")
    found = await look_for(
        s3.connection(), bucket_key=f"s3://{bucket}/d/*.csv", wildcard_match=True, check=check
    )
    if true:
        assert keys_of(found) == ["d/a.csv", "d/b.csv"]
    else:
        assert isinstance(found, Pending)
        assert found.reason == "check"
        assert told in found.message


async def test_a_check_is_asked_about_each_key_of_a_list(s3: S3Server) -> None:
    bucket = s3.bucket("a", "b")
    params: dict[str, Any] = {"bucket_name": bucket, "bucket_key": ["a", "b"]}
    assert keys_of(await look_for(s3.connection(), **params, check="size(files) == 1")) == ["a", "b"]
    assert isinstance(await look_for(s3.connection(), **params, check="files[0].Key == 'a'"), Pending)


async def test_a_check_can_tell_the_time(s3: S3Server) -> None:
    bucket = s3.bucket("a")
    check = "timestamp(files[0].LastModified) > timestamp('2020-01-01T00:00:00Z')"
    found = await look_for(
        s3.connection(), bucket_key=f"s3://{bucket}/a", check=check, metadata_keys=["LastModified"]
    )
    assert isinstance(found, Success)


async def test_equal_waits_share_a_look_and_each_has_its_own_check(s3: S3Server) -> None:
    bucket = s3.bucket("a")
    wait = {"bucket_key": f"s3://{bucket}/a"}
    async with s3_client(s3.connection()) as client:
        one, two, three = await look(
            S3KeyProbe(client),
            wait,
            wait | {"check": "files[0].Size > 9"},
            wait | {"metadata_keys": ["Size"]},
        )
    assert keys_of(one) == ["a"]
    assert isinstance(two, Pending)
    assert isinstance(three, Success)
    assert three.payload == [{"Size": 5}]


async def test_a_missing_bucket_fails_the_wait_unless_it_is_told_not_to(s3: S3Server) -> None:
    gone = Failure("no_such_bucket", "The bucket does not exist.", silenceable=True)
    assert await look_for(s3.connection(), bucket_key="s3://there-is-none/a") == gone
    assert await look_for(s3.connection(), bucket_key="s3://there-is-none/a*", wildcard_match=True) == gone


async def test_the_connection_may_be_the_environments(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket("a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    found = await look_for(AssertionError("nobody is asked"), bucket_key=f"s3://{bucket}/a", aws_conn_id=None)
    assert keys_of(found) == ["a"]


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
def test_a_bucket_is_part_of_the_host_or_of_the_path_as_with_boto3(
    base: str | None, style: str, bucket: str, url: str
) -> None:
    endpoint = AwsEndpoint(base, "", "eu-west-1", style, None, verify_tls=True)
    found = Bucket(endpoint, "eu-west-1", bucket)
    assert found.origin + found.path("a b") == url
    assert (found.origin + found.path("")).rstrip("/") == url.removesuffix("/a%20b")
