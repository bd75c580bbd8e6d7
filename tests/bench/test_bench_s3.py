"""The small S3, with boto3 and waitd's own probes as clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from waitd.bench.job_server import JobServerUrls
from waitd.bench.job_table import JobTable
from waitd.bench.jobs import parse_job
from waitd.bench.s3 import S3, files_of_job
from waitd.connections.cache import CachedConnections
from waitd.connections.environment import EnvironmentResolver
from waitd.core.waits.verdict import Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import Progress
from waitd.metrics import Instruments
from waitd.probes.optional import optional_probes

MARKER = "jobs/succeed/0/j/_SUCCESS"


@pytest.fixture
async def boto(job_server: JobServerUrls) -> AsyncIterator[Callable[..., Any]]:
    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=job_server.s3[0],
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    yield lambda name, **parameters: asyncio.to_thread(getattr(client, name), Bucket="b", **parameters)
    client.close()


async def test_boto3_reads_and_lists_the_files_of_a_job(boto: Callable[..., Any]) -> None:
    assert (await boto("head_object", Key=MARKER))["ContentLength"] == 0
    part = await boto("get_object", Key="jobs/succeed/0/j/part-00000.parquet")
    assert len(part["Body"].read()) == part["ContentLength"] > 0
    listed = (await boto("list_objects_v2", Prefix="jobs/succeed/0/j/"))["Contents"]
    assert [item["Key"].rpartition("/")[2] for item in listed] == ["_SUCCESS", "part-00000.parquet"]
    assert listed[1]["ETag"] == part["ETag"]
    assert abs((listed[1]["LastModified"] - part["LastModified"]).total_seconds()) <= 1
    assert "Contents" not in await boto("list_objects_v2", Prefix="")


async def test_boto3_lists_page_by_page(boto: Callable[..., Any]) -> None:
    first = await boto("list_objects_v2", Prefix="jobs/succeed/0/p/", MaxKeys=1)
    rest = await boto(
        "list_objects_v2", Prefix="jobs/succeed/0/p/", ContinuationToken=first["NextContinuationToken"]
    )
    assert (first["IsTruncated"], rest["IsTruncated"]) == (True, False)
    assert [item["Key"] for item in first["Contents"] + rest["Contents"]] == [
        "jobs/succeed/0/p/_SUCCESS",
        "jobs/succeed/0/p/part-00000.parquet",
    ]


async def test_boto3_gets_errors_for_missing_keys_and_slow_down(boto: Callable[..., Any]) -> None:
    with pytest.raises(ClientError, match="404"):
        await boto("head_object", Key="jobs/succeed/60/j/_SUCCESS")
    with pytest.raises(ClientError, match="NoSuchKey"):
        await boto("get_object", Key="elsewhere")
    with pytest.raises(ClientError, match="SlowDown"):
        await boto("list_objects_v2", Prefix="jobs/unavailable/0/j/")


class PokedWait:
    def __init__(self, target: Any) -> None:
        self.target = target
        self.progress = Progress()


@pytest.fixture
async def poke(job_server: JobServerUrls) -> AsyncIterator[Callable[..., Any]]:
    extra = {"endpoint_url": job_server.s3[0], "region_name": "us-east-1"}
    variable = json.dumps({"conn_type": "aws", "login": "demo", "password": "demo", "extra": extra})
    connections = CachedConnections(
        [EnvironmentResolver({"AIRFLOW_CONN_HERE": variable})],
        ttl=60,
        now=asyncio.get_running_loop().time,
        instruments=Instruments(version="test"),
    )
    async with optional_probes(connections) as probes:

        async def once(kind: str, **params: Any) -> Verdict:
            target = probes[kind].parse({"aws_conn_id": "here", **params}, namespace="default")
            [verdict] = await probes[kind].poke([PokedWait(target)])
            return verdict

        yield once


async def test_the_probes_see_present_and_missing_keys_and_a_busy_store(
    poke: Callable[..., Any],
) -> None:
    assert isinstance(await poke("s3_key", bucket_key=f"s3://bucket/{MARKER}"), Success)
    assert isinstance(await poke("s3_key", bucket_key="s3://bucket/jobs/endless/0/j/_SUCCESS"), Pending)
    parts = await poke("s3_key", bucket_key="s3://bucket/jobs/succeed/0/w/*.parquet", wildcard_match=True)
    assert parts.payload == [{"Size": 256, "Key": "jobs/succeed/0/w/part-00000.parquet"}]
    for _ in range(3):
        assert (await poke("s3_key", bucket_key="s3://bucket/jobs/unavailable/0/j/_SUCCESS")) == Unreachable(
            "http_503", "HTTP 503 Service Unavailable"
        )
    assert isinstance(await poke("s3_key", bucket_key="s3://bucket/jobs/unavailable/0/j/_SUCCESS"), Success)
    verdict = await poke(
        "s3_keys_unchanged", bucket_name="bucket", prefix="jobs/succeed/0/q/", inactivity_period=0
    )
    assert isinstance(verdict, Pending)
    assert "2 at" in verdict.message


def test_a_running_job_writes_parts_and_at_last_its_marker() -> None:
    now = 0.0
    table = JobTable(lambda: now)
    keys = S3(table.find_polled, lambda: now, lambda: 1000.0 + now)
    marker = b"/b/jobs/succeed/1.2/j/_SUCCESS"
    counts = []
    for now in (0.0, 0.4, 0.5, 1.0, 1.19, 1.2, 60.0):  # noqa: B007 - the lambdas read it
        listed, _ = keys.answer(b"/b?list-type=2&prefix=jobs/succeed/1.2/j/", b"GET")
        head, _ = keys.answer(marker, b"HEAD")
        counts.append((listed.count(b"<Key>"), head.startswith(b"HTTP/1.1 200")))
    assert counts == [(0, False), (0, False), (1, False), (2, False), (2, False), (4, True), (4, True)]
    assert b"Thu, 01 Jan 1970 00:16:41 GMT" in keys.answer(marker, b"HEAD")[0]


def test_a_job_without_an_end_writes_nothing() -> None:
    assert files_of_job(parse_job("/jobs/endless/1/j"), 60, ended=False) == ()
