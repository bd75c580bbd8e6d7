"""Submits, waits and cancels of presets, against a server that answers as the vendors document."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from preset_probes import Kinds, kinds
from vendor_tables import BEFORE
from vendors import Vendors, vendors

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.job_cancel import JobCancelled
from waitd.core.waits.submission import SubmitAccepted, SubmitConflict, SubmitRejected, SubmitUncertain
from waitd.core.waits.verdict import Failure, Pending, Success
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, record_verdict
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.submit.placeholders import placeholder_names
from waitd.probes.submit.plan import SubmitRequest

WAIT = WaitId("0193f9e0-5d0a-7c3a-8000-7b5d4c0e7b0e")
CONNECTION = "e735894a-e773-4938-969f-45f53957b75b"
#: By kind: the wait's own parameters, what is submitted, and the vendor's name in the server.
JOBS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "airbyte.job": ({}, {"connection_id": CONNECTION}, "airbyte"),
    "databricks.run": ({}, {"job_id": 1}, "databricks"),
    "spark.standalone": (
        {"spark_conn_id": "spark"},
        {"app_resource": "file:/a.jar", "main_class": "A", "spark_properties": {"spark.app.name": "a"}},
        "spark",
    ),
    "livy.batch": ({}, {"file": "hdfs:///a.py"}, "livy"),
    "bigquery.job": ({"project_id": "p"}, {"configuration": {"query": {"query": "SELECT 1"}}}, "bigquery"),
    "airbyte.config_job": ({}, {"connection_id": CONNECTION}, "airbyte-config"),
    "databricks.sql": ({}, {"statement": "SELECT 1", "warehouse_id": "w"}, "databricks-sql"),
    "snowflake.sql": ({}, {"statement": "SELECT 1"}, "snowflake"),
    "dbt.cloud": ({"account_id": 7}, {"job_id": 8}, "dbt"),
    "dataproc.job": ({"project_id": "p", "region": "europe-west1"}, {"job": {"pysparkJob": {}}}, "dataproc"),
    "adf.pipeline": (
        {
            "subscription_id": "12345678-1234-9876-4563-123456789012",
            "resource_group_name": "data",
            "factory_name": "orders",
        },
        {"pipeline_name": "copy"},
        "adf",
    ),
    "argo.workflow": (
        {"namespace": "etl"},
        {"resource_kind": "WorkflowTemplate", "resource_name": "orders"},
        "argo",
    ),
    "hightouch.sync": ({"sync_id": 5}, {}, "hightouch"),
    "http.async202": ({"http_conn_id": "api"}, {"submit_endpoint": "/exports"}, "async202"),
}
_AZURE = (
    "/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/{}?api-version=2024-07-01"
)
#: Kinds whose jobs waitd cannot submit: the parameters by the job's id, the vendor's name in the
#: server, the states of a job that fails, and the message of its failure.
STARTED: dict[str, tuple[Callable[[str], dict[str, Any]], str, list[str], str]] = {
    "azure.operation": (
        lambda job_id: {"endpoint": _AZURE.format(job_id)},
        "azure",
        ["InProgress", "Failed"],
        "Failed: DiskInUse: The disk is in use.",
    ),
    "fivetran.sync": (
        lambda job_id: {"connection_id": job_id, "baseline": BEFORE},
        "fivetran",
        ["syncing", "failed"],
        "failed: Reconnect",
    ),
    "github.run": (
        lambda job_id: {"owner": "apache", "repo": "airflow", "run_id": int(job_id)},
        "github",
        ["in_progress", "completed/cancelled"],
        "cancelled: https://github.com/apache/airflow/actions/runs/101",
    ),
}
CANCELLED = [kind for kind in JOBS if built_in_presets()[kind].file.cancel]


@pytest.fixture
async def server() -> AsyncIterator[Vendors]:
    async with vendors() as server:
        yield server


@pytest.fixture
async def probes(server: Vendors) -> AsyncIterator[Kinds]:
    tables = {kind: built_in_presets()[kind].file.connection for kind in (*JOBS, *STARTED)}
    names = {table.default or JOBS[kind][0][table.param] for kind, table in tables.items()}
    known = [Connection(name, host=server.url, extra={"auth_type": "none"}) for name in sorted(names)]
    async with kinds(*known) as probes:
        yield probes


def parse(probes: Kinds, kind: str, **submit: Any) -> SubmitRequest:
    """Parses the submit of a kind in `JOBS`, with these fields besides."""
    params, fields, _ = JOBS[kind]
    return probes.probe(kind).parse_submit({**fields, **submit}, params, namespace="default")


@pytest.mark.parametrize("kind", JOBS)
async def test_a_job_is_submitted_and_succeeds(server: Vendors, probes: Kinds, kind: str) -> None:
    params, _, vendor = JOBS[kind]
    plan = parse(probes, kind)
    answer = await probes.jobs.submit(plan, WAIT)
    assert isinstance(answer, SubmitAccepted)
    assert not answer.adopted
    complete = plan.params_with(params, answer.handle, WAIT)
    [job] = server.jobs_of(vendor)
    assert job.id in {str(value).rpartition("/")[2].partition("?")[0] for value in complete.values()}
    verdicts = await probes.poke_repeatedly(kind, complete, len(job.states))
    assert [type(verdict) for verdict in verdicts] == [*[Pending] * (len(verdicts) - 1), Success]


@pytest.mark.parametrize("kind", JOBS)
async def test_a_submitted_job_may_be_missing_at_first(server: Vendors, probes: Kinds, kind: str) -> None:
    params = JOBS[kind][0]
    plan = parse(probes, kind)
    answer = await probes.jobs.submit(plan, WAIT)
    assert isinstance(answer, SubmitAccepted)
    complete = plan.params_with(params, answer.handle, WAIT)
    hidden, server.jobs = server.jobs, []
    progress = EMPTY_PROGRESS
    for _ in range(4):
        verdict = await probes.poke(kind, complete, progress)
        assert isinstance(verdict, Pending)
        progress = record_verdict(progress, verdict, probes.now)
        probes.now += 30
    server.jobs = hidden
    assert isinstance(await probes.poke(kind, complete, progress), Pending)
    verdicts = await probes.poke_repeatedly(kind, complete, len(hidden[0].states))
    assert isinstance(verdicts[-1], Success)


@pytest.mark.parametrize("kind", STARTED)
async def test_a_job_started_elsewhere_succeeds_or_fails(server: Vendors, probes: Kinds, kind: str) -> None:
    params, vendor, failing, message = STARTED[kind]
    job = server.submit(vendor, {})
    verdicts = await probes.poke_repeatedly(kind, params(job.id), len(job.states))
    assert [type(verdict) for verdict in verdicts] == [*[Pending] * (len(verdicts) - 1), Success]
    job.states = failing
    running, failed = await probes.poke_repeatedly(kind, params(job.id), 2)
    assert isinstance(running, Pending)
    assert isinstance(failed, Failure)
    assert failed.message == message


async def test_an_operation_is_followed_and_fails_with_its_own_message(
    server: Vendors, probes: Kinds
) -> None:
    job = server.submit("async202", {})
    job.states = ["202", "202", "422"]
    params = {"http_conn_id": "api", "endpoint": f"/operations/{job.id}"}
    first, second, last = await probes.poke_repeatedly("http.async202", params, 3)
    assert [verdict.retry_after for verdict in (first, second) if isinstance(verdict, Pending)] == [7, 7]
    assert isinstance(last, Failure)
    assert last.message == "Export failed: no such table"
    assert [request.partition("?")[2] for request in server.requests] == ["", "seen=1", "seen=2"]


@pytest.mark.parametrize("kind", CANCELLED)
async def test_a_job_is_cancelled(server: Vendors, probes: Kinds, kind: str) -> None:
    params, _, vendor = JOBS[kind]
    plan = parse(probes, kind, cancel_job_on=["timeout"])
    answer = await probes.jobs.submit(plan, WAIT)
    assert isinstance(answer, SubmitAccepted)
    assert await probes.jobs.cancel(plan, WAIT, answer.handle) == JobCancelled()
    assert [job.cancelled for job in server.jobs_of(vendor)] == [True]
    verdict = await probes.poke(kind, plan.params_with(params, answer.handle, WAIT))
    assert isinstance(verdict, Failure)
    assert await probes.jobs.cancel(plan, WAIT, answer.handle) == JobCancelled()


@pytest.mark.parametrize(
    "kind",
    ["databricks.run", "bigquery.job", "snowflake.sql", "dataproc.job", "argo.workflow", "http.async202"],
)
async def test_an_idempotent_call_whose_answer_was_lost_creates_no_second_job(
    server: Vendors, probes: Kinds, kind: str
) -> None:
    params, _, vendor = JOBS[kind]
    server.lose_answer = lambda _: True
    plan = parse(probes, kind)
    assert plan.rules.idempotent
    assert isinstance(await probes.jobs.submit(plan, WAIT), SubmitUncertain)
    again = await probes.jobs.submit(plan, WAIT)
    assert isinstance(again, SubmitAccepted)
    assert not again.adopted
    assert len(server.jobs_of(vendor)) == 1
    assert isinstance(await probes.poke(kind, plan.params_with(params, again.handle, WAIT)), Pending)


@pytest.mark.parametrize("kind", ["airbyte.job", "spark.standalone", "livy.batch"])
async def test_calls_without_a_key_are_not_idempotent(probes: Kinds, kind: str) -> None:
    assert not parse(probes, kind).rules.idempotent


async def test_a_conflict_is_an_error_or_the_running_job_is_adopted(server: Vendors, probes: Kinds) -> None:
    running = server.submit("airbyte", {}, key=CONNECTION)
    for on_conflict in ("fail", "wait"):
        plan = parse(probes, "airbyte.job", on_conflict=on_conflict)
        assert plan.rules.on_conflict == on_conflict
        assert isinstance(await probes.jobs.submit(plan, WAIT), SubmitConflict)
    plan = parse(probes, "airbyte.job", on_conflict="adopt")
    assert await probes.jobs.submit(plan, WAIT) == SubmitAccepted({"job_id": int(running.id)}, adopted=True)
    assert len(server.jobs) == 1
    running.states = ["succeeded"]
    fresh = await probes.jobs.submit(plan, WAIT)
    assert isinstance(fresh, SubmitAccepted)
    assert not fresh.adopted


async def test_a_refusal_has_the_message_of_the_vendor(probes: Kinds) -> None:
    plan = parse(probes, "databricks.run", idempotency_key="x" * 65)
    assert await probes.jobs.submit(plan, WAIT) == SubmitRejected("HTTP 400 Bad Request: token")


BAD = [
    ("github.run", {}, {}, "/submit", "a job of kind github.run cannot be submitted"),
    ("airbyte.job", {}, {}, "/submit/connection_id", "Field required"),
    ("airbyte.job", {}, {"connection_id": "x"}, "/submit/connection_id", "pattern"),
    ("airbyte.job", {}, {"connection_id": CONNECTION, "job": 1}, "/submit/job", "unknown field"),
    ("airbyte.job", {"job_id": 1}, {"connection_id": CONNECTION}, "/params/job_id", "it comes from the submitted job"),
    ("airbyte.job", {"jobid": 1}, {"connection_id": CONNECTION}, "/params/jobid", "unknown field"),
    ("bigquery.job", {"project_id": "p"}, {"configuration": {}, "on_conflict": "wait"}, "/submit/on_conflict", "'adopt'"),
    ("hightouch.sync", {"sync_id": 1}, {"cancel_job_on": ["timeout"]}, "/submit/cancel_job_on", "cannot be cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "params", "submit", "pointer", "words"), BAD, ids=[f"{b[0]} {b[4]}" for b in BAD]
)
async def test_a_mistake_in_submit_is_reported_at_its_field(
    probes: Kinds, kind: str, params: dict[str, Any], submit: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        probes.probe(kind).parse_submit(submit, params, namespace="default")
    assert any(p.pointer == pointer and words in p.detail for p in caught.value.problems), (
        caught.value.problems
    )


@pytest.mark.parametrize(
    "kind", sorted(kind for kind, preset in built_in_presets().items() if preset.file.submit)
)
async def test_the_example_of_every_submit_is_valid(probes: Kinds, kind: str) -> None:
    """Placeholders remain for the handle and the key only, and a poke with the handle is valid."""
    preset = built_in_presets()[kind]
    table = preset.file.submit
    assert table is not None
    params = {name: value for name, value in preset.example().items() if name not in table.handle}
    if preset.file.connection.default is None:
        params[preset.file.connection.param] = "spark"
    examples = {name: each.example for name, each in table.params.items() if each.example is not None}
    cancel = {"cancel_job_on": ["timeout"]} if preset.file.cancel else {}
    plan = probes.probe(kind).parse_submit({**examples, **cancel}, params, namespace="default")
    assert placeholder_names(plan.params) <= {"idempotency_key"}
    assert plan.conn_ids == {params.get(preset.file.connection.param, preset.file.connection.default)}
    handle = {name: preset.example().get(name) for name in table.handle}
    probes.probe(kind).parse(plan.params_with(params, handle, WAIT), namespace="default")
    if plan.cancel is not None:
        assert all(f"{{handle.{name}}}" in str(plan.cancel.params) for name in table.handle)
