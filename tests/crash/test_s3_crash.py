"""`s3_keys_unchanged` over SIGKILL: its clock goes on, and changes meanwhile are noticed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from daemon import Daemon, get_wait, submit, until
from moto_s3 import S3Server, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def environment(s3: S3Server) -> dict[str, Any]:
    connection = {
        "conn_type": "aws",
        "login": "AKIA",
        "password": "secret",
        "extra": {"endpoint_url": s3.url},
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": orjson.dumps(connection).decode()}


async def submit_keys_wait(client: aiohttp.ClientSession, daemon: Daemon, **params: Any) -> str:
    body = {"kind": "s3_keys_unchanged", "params": params, "poke_interval": 0.2, "timeout": 120}
    return await submit(client, daemon, body)


async def test_the_clock_goes_on_over_a_kill_and_a_deletion_while_down_fails(
    s3: S3Server, tmp_path: Path
) -> None:
    bucket = s3.bucket("quiet/a", "deleted/a", "deleted/b", "grown/a")
    async with aiohttp.ClientSession() as client:
        daemon = Daemon(tmp_path, **environment(s3))
        try:
            await daemon.start()
            common = {"bucket_name": bucket, "allow_delete": False}
            waits = {
                "quiet/": await submit_keys_wait(
                    client, daemon, **common, prefix="quiet/", inactivity_period=4
                ),
                "deleted/": await submit_keys_wait(
                    client, daemon, **common, prefix="deleted/", inactivity_period=1000
                ),
                "grown/": await submit_keys_wait(
                    client, daemon, **common, prefix="grown/", inactivity_period=2
                ),
            }

            async def seen() -> dict[str, dict[str, Any]]:
                return {prefix: await get_wait(client, daemon, wait_id) for prefix, wait_id in waits.items()}

            async def remembered() -> bool:
                return all(
                    w["last_verdict"] and w["last_verdict"]["reason"] == "unchanged"
                    for w in (await seen()).values()
                )

            await until(remembered, what="a second look at each prefix")
            before = await seen()
            await daemon.kill()
            s3.delete(bucket, "deleted/b")
            s3.put(bucket, "grown/b")
            await daemon.start()
            after = {prefix: await get_wait(client, daemon, wait_id, 30) for prefix, wait_id in waits.items()}
        finally:
            await daemon.kill()
    assert (after["deleted/"]["state"], after["deleted/"]["outcome"]["reason"]) == (
        "failed",
        "objects_deleted",
    )
    assert after["quiet/"]["state"] == "success"
    since = after["quiet/"]["outcome"]["payload"]["unchanged_since"]
    assert since in before["quiet/"]["last_verdict"]["message"]
    assert after["grown/"]["state"] == "success"
    assert after["grown/"]["outcome"]["payload"]["objects"] == 2
    assert after["grown/"]["outcome"]["payload"]["unchanged_since"] > since
