"""`s3_keys_unchanged` over SIGKILL: its clock goes on, and changes meanwhile are noticed."""

from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from daemon import daemon, get_wait, submit, until
from moto_s3 import S3Server, s3_server

pytestmark = pytest.mark.slow


def environment(s3: S3Server) -> dict[str, str]:
    connection = {
        "conn_type": "aws",
        "login": "AKIA",
        "password": "secret",
        "extra": {"endpoint_url": s3.url},
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": orjson.dumps(connection).decode()}


async def test_the_clock_goes_on_over_a_kill_and_a_deletion_while_down_fails(tmp_path: Path) -> None:
    periods = {"quiet/": 4, "deleted/": 1000, "grown/": 2}
    waits: dict[str, str] = {}
    with s3_server() as s3:
        bucket = s3.bucket("quiet/a", "deleted/a", "deleted/b", "grown/a")
        async with aiohttp.ClientSession() as client, daemon(tmp_path, **environment(s3)) as waitd:
            for prefix, period in periods.items():
                params = {
                    "bucket_name": bucket,
                    "allow_delete": False,
                    "prefix": prefix,
                    "inactivity_period": period,
                }
                body = {"kind": "s3_keys_unchanged", "params": params, "poke_interval": 0.2, "timeout": 120}
                waits[prefix] = await submit(client, waitd, body)

            async def all_waits(seconds: float = 0) -> dict[str, dict[str, Any]]:
                return {
                    prefix: await get_wait(client, waitd, wait_id, seconds)
                    for prefix, wait_id in waits.items()
                }

            async def all_unchanged() -> bool:
                return all(
                    wait["last_verdict"] and wait["last_verdict"]["reason"] == "unchanged"
                    for wait in (await all_waits()).values()
                )

            await until(all_unchanged, what="a second poke of each prefix")
            before = await all_waits()
            await waitd.kill()
            s3.delete(bucket, "deleted/b")
            s3.put(bucket, "grown/b")
            await waitd.start()
            after = await all_waits(30)
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
