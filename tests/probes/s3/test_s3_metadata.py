"""`metadata_keys`: what boto3, and so Airflow's sensor, says of an object of a real S3 server."""

from datetime import UTC, datetime
from typing import Any

import pytest
from moto_s3 import S3Server
from raw_server import answer, raw_server
from s3_pokes import aws, error, payload_of, poke, poke_key, s3_client

from waitd.core.waits.event import rfc3339
from waitd.core.waits.verdict import Failure, Pending, Success
from waitd.probes.s3.details import MAX_DETAILED, TOO_MANY_DETAILS
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.metadata import METADATA
from waitd.probes.s3.params import key_target

pytestmark = pytest.mark.usefixtures("cold_and_warm")

RICH: dict[str, Any] = {
    "Body": b"12345", "StorageClass": "STANDARD_IA", "Metadata": {"batch": "7", "Source-System": "erp"}, "CacheControl": "max-age=60",
    "ContentType": "text/csv", "ContentEncoding": "gzip", "ContentLanguage": "de", "ContentDisposition": "attachment",
    "ChecksumAlgorithm": "SHA256", "ServerSideEncryption": "AES256", "Tagging": "state=final&owner=a%2Bb",
}  # fmt: skip


def rich_bucket(s3: S3Server, *keys: str) -> str:
    bucket = s3.bucket()
    s3.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in keys or ("rich.csv",):
        s3.s3.put_object(Bucket=bucket, Key=key, **RICH)
    return bucket


def as_json(value: Any) -> Any:
    """A value of boto3 as waitd shows it: times as texts, user metadata by lower-case name."""
    if isinstance(value, datetime):
        return rfc3339(value.astimezone(UTC).timestamp())
    return {name.lower(): each for name, each in value.items()} if isinstance(value, dict) else value


def airflow_says(listed: dict[str, Any] | None, head: dict[str, Any], name: str) -> Any:
    """What Airflow's S3KeySensor gives `check_fn`: of the LIST with patterns, else of the HEAD."""
    if listed is not None and name in listed:
        return as_json(listed[name])
    return as_json(head.get("ContentLength" if name == "Size" else name))


@pytest.mark.parametrize("by_list", [False, True])
async def test_each_field_is_what_airflows_sensor_would_see(s3: S3Server, by_list: bool) -> None:
    bucket = rich_bucket(s3)
    names = [name for name in METADATA if name not in {"Key", "Tags", "Owner", "RestoreStatus"}]
    params = {"bucket_key": "rich.*", "wildcard_match": True} if by_list else {"bucket_key": "rich.csv"}
    verdict = await poke_key(s3.connection(), bucket_name=bucket, metadata_keys=names, **params)
    [file] = payload_of(verdict)
    head = s3.s3.head_object(Bucket=bucket, Key="rich.csv", ChecksumMode="ENABLED")
    [listed] = s3.s3.list_objects_v2(Bucket=bucket)["Contents"]
    listed["LastModified"] = listed["LastModified"].replace(microsecond=0)
    file["LastModified"] = file["LastModified"][:19] + ".000Z"
    assert file == {name: airflow_says(listed if by_list else None, head, name) for name in names}
    seen = {name for name, value in file.items() if value not in (None, {})}
    assert {"StorageClass", "Metadata", "VersionId", "ContentType", "ChecksumSHA256", "TagCount"} <= seen


@pytest.mark.parametrize("pattern", [{}, {"wildcard_match": True}])
@pytest.mark.parametrize(
    "check",
    [
        "files.all(f, f.StorageClass == 'STANDARD_IA')",
        "files.all(f, f.Metadata.batch == '7' && f.Metadata['source-system'] == 'erp')",
        "files.all(f, f.Tags.state == 'final' && f.Tags.owner == 'a+b')",
        "files.all(f, f.Restore == null && f.VersionId != '')",
        "files.all(f, f.ContentType == 'text/csv' && f.ContentLength == 5)",
    ],
)
async def test_a_check_sees_each_field_with_all_metadata(
    s3: S3Server, check: str, pattern: dict[str, Any]
) -> None:
    params = {"bucket_name": rich_bucket(s3), "bucket_key": "rich.csv", "metadata_keys": ["*"], **pattern}
    assert isinstance(await poke_key(s3.connection(), check=check, **params), Success)
    unmet = await poke_key(s3.connection(), check=f"!({check})", **params)
    assert unmet == Pending("check", "The keys exist; check: it is false.")


async def test_a_restored_object_ends_a_wait(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.s3.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass="GLACIER")
    wait = {"bucket_key": f"s3://{bucket}/a", "metadata_keys": ["Restore"]}
    wait["check"] = "files.all(f, f.Restore != null && f.Restore.contains('ongoing-request=\"false\"'))"
    assert isinstance(await poke_key(s3.connection(), **wait), Pending)
    s3.s3.restore_object(Bucket=bucket, Key="a", RestoreRequest={"Days": 1})
    assert isinstance(await poke_key(s3.connection(), **wait), Success)


async def test_a_tag_ends_a_wait(s3: S3Server) -> None:
    bucket = rich_bucket(s3)
    wait = {"bucket_key": f"s3://{bucket}/rich.csv", "metadata_keys": ["Tags"]}
    wait["check"] = "files.all(f, f.Tags.state == 'checked')"
    assert isinstance(await poke_key(s3.connection(), **wait), Pending)
    tags = {"TagSet": [{"Key": "state", "Value": "checked"}]}
    s3.s3.put_object_tagging(Bucket=bucket, Key="rich.csv", Tagging=tags)
    assert payload_of(await poke_key(s3.connection(), **wait)) == [{"Tags": {"state": "checked"}}]


async def test_fields_on_request_are_requested_with_a_signature() -> None:
    row = (
        "<Contents><Key>a</Key><Size>5</Size><ETag>e</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA1</ChecksumAlgorithm>"
        "<Owner><ID>i</ID><DisplayName>d</DisplayName></Owner><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        "<RestoreExpiryDate>2026-12-01T00:00:00.000Z</RestoreExpiryDate></RestoreStatus></Contents>"
    )
    page = answer(200, f"<ListBucketResult>{row}</ListBucketResult>".encode())
    names = ["Owner", "RestoreStatus", "ChecksumAlgorithm"]
    async with raw_server([page]) as server:
        verdict = await poke_key(
            aws(server.url), bucket_key="s3://bucket/*", wildcard_match=True, metadata_keys=names
        )
    assert payload_of(verdict) == [{
        "Owner": {"ID": "i", "DisplayName": "d"},
        "RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": "2026-12-01T00:00:00.000Z"},
        "ChecksumAlgorithm": ["CRC32", "SHA1"],
    }]  # fmt: skip
    [head] = server.requests
    assert "fetch-owner=true" in head
    assert "X-Amz-Optional-Object-Attributes: RestoreStatus" in head
    assert ";x-amz-optional-object-attributes" in head.partition("SignedHeaders=")[2].partition(",")[0]


async def test_a_denied_tag_names_the_permission() -> None:
    def script(head: str, _: int) -> list[bytes]:
        if "?tagging" in head:
            return [error(403, "AccessDenied")]
        return [answer(200, b"", 'ETag: "e"')]

    async with raw_server(script) as server:
        verdict = await poke_key(aws(server.url), bucket_key="s3://bucket/a", metadata_keys=["Tags"])
    assert isinstance(verdict, Failure)
    assert "s3:GetObjectTagging" in verdict.message


async def test_a_secret_and_bytes_that_are_no_text_do_not_reach_the_payload() -> None:
    def script(head: str, _: int) -> list[bytes]:
        signature = head.partition("Signature=")[2][:64]
        response = answer(200, b"", 'ETag: "e"', f"x-amz-meta-a: {signature}", "x-amz-meta-b: !")
        return [response.replace(b"!", b"\xff")]

    async with raw_server(script) as server:
        verdict = await poke_key(aws(server.url), bucket_key="s3://bucket/a", metadata_keys=["Metadata"])
    assert payload_of(verdict) == [{"Metadata": {"a": "***", "b": "\ufffd"}}]


async def test_only_so_many_matches_are_asked_about(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, *(f"{n}" for n in range(MAX_DETAILED + 1)))
    wait = {"bucket_name": bucket, "bucket_key": "*", "wildcard_match": True, "metadata_keys": ["Metadata"]}
    assert await poke_key(s3.connection(), **wait, check="size(files) > 0") == TOO_MANY_DETAILS
    unchecked = await poke_key(s3.connection(), **wait)
    assert isinstance(unchecked, Success)
    assert unchecked.payload is None


async def test_waits_with_other_metadata_share_a_request(s3: S3Server) -> None:
    bucket = rich_bucket(s3, "a", "b")
    async with s3_client(s3.connection()) as client:
        probe = S3KeyProbe(client)
        for keys in ({"bucket_key": "a"}, {"bucket_key": "*", "wildcard_match": True}):
            waits = [
                {"bucket_name": bucket, "metadata_keys": names, **keys}
                for names in (["Key"], ["StorageClass"])
            ]
            plain, rich = await poke(probe, *waits)
            assert payload_of(plain)[0] == {"Key": "a"}
            assert payload_of(rich)[0] == {"StorageClass": "STANDARD_IA"}


@pytest.mark.parametrize("name", ["Tags", "Metadata", "ChecksumSHA256", "Owner", "RestoreStatus"])
@pytest.mark.parametrize("keys", [{"bucket_key": "a"}, {"bucket_key": "*", "wildcard_match": True}])
def test_a_wait_shares_no_request_that_may_be_denied(name: str, keys: dict[str, Any]) -> None:
    plain, other, rich = (
        key_target({"bucket_name": "bucket", "metadata_keys": names, **keys}, namespace="default")
        for names in (["Key"], ["Key", "StorageClass"], ["Key", name])
    )
    assert plain.key == other.key != rich.key
