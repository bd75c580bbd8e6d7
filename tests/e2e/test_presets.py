"""Presets in a real daemon, with fakes of the vendors and a directory of custom presets."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon import Daemon, daemon
from preset_waits import get, post, wait_until_ended
from vendors import Vendors, vendors

from waitd.probes.presets.loading import BUILT_IN, built_in_presets

pytestmark = pytest.mark.slow
CONNECTION = "e735894a-e773-4938-969f-45f53957b75b"
NAMES = ("airbyte_default", "databricks_default", "spark", "livy_default", "google_cloud_default")


@pytest.fixture
async def server() -> AsyncIterator[Vendors]:
    async with vendors() as running:
        yield running


@pytest.fixture
async def served(server: Vendors, tmp_path: Path) -> AsyncIterator[Daemon]:
    custom = tmp_path / "presets"
    custom.mkdir()
    text = (BUILT_IN / "livy.batch.toml").read_text("utf-8").replace("livy.batch", "acme.job")
    (custom / "acme.toml").write_text(text.replace("min_poke_interval = 1", "min_poke_interval = 0.1"))
    connection = json.dumps({"conn_type": "http", "host": server.url, "extra": {"auth_type": "none"}})
    variables = {f"AIRFLOW_CONN_{name.upper()}": connection for name in NAMES}
    async with daemon(tmp_path / "state", WAITD_PRESETS_DIR=str(custom), **variables) as running:
        yield running


async def test_a_job_is_submitted_and_its_result_is_the_payload(served: Daemon, server: Vendors) -> None:
    status, wait = await post(
        f"{served.url}/v1/waits",
        {"kind": "airbyte.job", "submit": {"connection_id": CONNECTION}, "poke_interval": 1, "timeout": 600},
    )
    assert status == 201, wait
    ended = await wait_until_ended(served, wait)
    assert ended["state"] == "success"
    assert ended["outcome"]["payload"]["status"] == "succeeded"
    assert [job.submitted for job in server.jobs] == [{"connectionId": CONNECTION, "jobType": "sync"}]


async def test_a_custom_preset_fails_with_its_systems_message(served: Daemon, server: Vendors) -> None:
    job = server.submit("livy", {})
    job.states = ["running", "dead"]
    params = {"livy_conn_id": "livy_default", "batch_id": int(job.id)}
    status, wait = await post(
        f"{served.url}/v1/waits", {"kind": "acme.job", "params": params, "poke_interval": 0.2}
    )
    assert status == 201, wait
    ended = await wait_until_ended(served, wait)
    assert (ended["state"], ended["outcome"]["message"]) == ("failed", "The state is dead.")


async def test_each_kind_has_its_own_interval_and_parameters(served: Daemon, server: Vendors) -> None:
    waits = f"{served.url}/v1/waits"
    job = server.submit("airbyte", {}, key=CONNECTION)
    job.states = ["running"]
    status, wait = await post(waits, {"kind": "airbyte.job", "params": {"job_id": int(job.id)}})
    assert (status, wait["poke_interval"]) == (201, 30)
    for body, pointer, message in (
        ({"params": {"job_id": 1}, "poke_interval": 0.5}, "/poke_interval", "at least 1 seconds for airbyte.job"),
        ({"params": {"job_id": 1}, "max_wait": 20}, "/max_wait", "at least the poke_interval"),
        ({"params": {"job_id": "1"}}, "/params/job_id", "valid integer"),
        ({"params": {"job_id": 1, "airbyte_conn_id": "absent"}}, "/params/airbyte_conn_id", "no resolver knows"),
        ({"params": {}, "submit": {"connection_id": "x"}}, "/submit/connection_id", "pattern"),
        ({"params": {"airbyte_conn_id": "absent"}, "submit": {"connection_id": CONNECTION}}, "/params/airbyte_conn_id", "no resolver"),
    ):  # fmt: skip
        status, problem = await post(waits, {"kind": "airbyte.job", **body})
        assert status == 422
        [error] = problem["errors"]
        assert (error["pointer"], message in error["detail"]) == (pointer, True), error


async def test_an_unknown_state_is_counted_and_does_not_end_the_wait(served: Daemon, server: Vendors) -> None:
    job = server.submit("bigquery", {"jobReference": {"projectId": "p", "jobId": "j"}}, job_id="j")
    job.states = ["SLEEPING", "SLEEPING", "DONE"]
    body = {"kind": "bigquery.job", "params": {"project_id": "p", "job_id": "j"}, "poke_interval": 1}
    _, wait = await post(f"{served.url}/v1/waits", body)
    ended = await wait_until_ended(served, wait)
    assert (ended["state"], ended["pokes"]) == ("success", 3)
    logged = await served.logged("unknown_state")
    assert (logged["kind"], "'SLEEPING'" in logged["message"]) == ("bigquery.job", True)
    assert 'waitd_unknown_states_total{kind="bigquery.job"} 2.0' in await get(f"{served.url}/metrics")


async def test_the_openapi_document_contains_every_kind(served: Daemon) -> None:
    document = await get(f"{served.url}/openapi.json")
    kinds = document["components"]["schemas"]["WaitRequest"]["discriminator"]["mapping"]
    assert {*built_in_presets(), "acme.job", "http"} <= set(kinds)
    assert "job_id" in document["components"]["schemas"]["AirbyteJobParams"]["properties"]
