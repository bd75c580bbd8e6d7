"""Airflow's own sensors of S3 and the kinds `s3_key` and `s3_keys_unchanged` say the same."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes import FakeConnections
from moto_s3 import s3_server
from sensor_pokes import last_verdict, sensors_say

from waitd.outgoing import EgressGuard
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """Parameters, what the sensor says, and the verdict of waitd.

    `check` is a condition, in Python and in CEL.
    """

    params: dict[str, Any]
    sensor: str
    verdict: str
    check: tuple[str, str] | None = None
    pokes: int = 1
    why: str = ""


def of_key(*keys: str, **more: Any) -> dict[str, Any]:
    return {"bucket_key": list(keys), "bucket_name": "BUCKET", **more}


def unchanged(prefix: str, **more: Any) -> dict[str, Any]:
    return {"bucket_name": "BUCKET", "prefix": prefix, "inactivity_period": 0, **more}


LARGE = "all(file['Size'] > 4 for file in files)", "files.all(file, file.Size > 4)"
EMPTY = "any(file['Size'] == 0 for file in files)", "files.exists(file, file.Size == 0)"
CASES = [
    Case(of_key("a/1"), "true", "success"),
    Case(of_key("a/none"), "false", "pending"),
    Case(of_key("a/1", "a/2"), "true", "success"),
    Case(of_key("a/1", "a/none"), "false", "pending"),
    Case({"bucket_key": "s3://BUCKET/a/1"}, "true", "success"),
    Case(of_key("a/*", wildcard_match=True), "true", "success"),
    Case(of_key("b/*", wildcard_match=True), "false", "pending"),
    Case(of_key("a/[0-9]$", use_regex=True), "true", "success"),
    Case(of_key("[0-9]$", use_regex=True), "false", "pending"),
    Case(of_key("a/1"), "true", "success", LARGE),
    Case(of_key("a/*", wildcard_match=True), "true", "success", LARGE),
    Case(of_key("a/1"), "false", "pending", EMPTY),
    Case({"bucket_key": "s3://no-such-bucket/a"}, "false", "failure", why="the bucket cannot appear"),
    Case(unchanged("a/"), "false", "pending"),
    Case(unchanged("a/"), "true", "success", pokes=2),
    Case(unchanged("a/", min_objects=9), "false", "pending", pokes=2),
    Case(unchanged("none/"), "false", "pending", pokes=2),
    Case(unchanged("a/", inactivity_period=3600), "false", "pending", pokes=3),
]


async def test_a_poke_says_what_airflows_sensor_says(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3_server() as server:
        bucket = server.bucket("a/1", "a/2")
        params = [in_bucket(case.params, bucket) for case in CASES]
        pokes = [
            {"params": each, "check": case.check and case.check[0], "pokes": case.pokes}
            for case, each in zip(CASES, params, strict=True)
        ]
        said = await sensors_say(environment, "s3_sensors.py", tmp_path, server.url, pokes)
        connections = FakeConnections(server.connection(region_name="us-east-1"))
        async with S3Client(connections, egress=EgressGuard()) as client:
            key, keys_unchanged = S3KeyProbe(client), S3KeysUnchangedProbe(client)
            seen = []
            for case, each in zip(CASES, params, strict=True):
                probe = keys_unchanged if "prefix" in each else key
                check = {"check": case.check[1]} if case.check else {}
                seen.append(await last_verdict(probe, each | check, case.pokes))
    assert [*zip(CASES, said, seen, strict=True)] == [(case, case.sensor, case.verdict) for case in CASES]


def in_bucket(params: dict[str, Any], bucket: str) -> dict[str, Any]:
    """The parameters with the name of the bucket."""
    named = {name: value for name, value in params.items() if value != "BUCKET"}
    if "bucket_name" in params:
        named["bucket_name"] = bucket
    elif isinstance(params["bucket_key"], str):
        named["bucket_key"] = params["bucket_key"].replace("BUCKET", bucket)
    return named
