"""Every preset's golden cases, through the real probe and over a real socket, both ways past and through aiohttp's session."""

import pickle

import pytest

from waitd.core.http.job_answer import JobAnswerKind
from waitd.probes.presets import cases
from waitd.probes.presets.checks import find_mistakes
from waitd.probes.presets.evaluation import JobSources, shared_job_conditions
from waitd.probes.presets.loading import BUILT_IN, built_in_presets

#: The kinds that are promised.
FIRST_CLASS = {
    *(
        "airbyte.job",
        "airbyte.config_job",
        "bigquery.job",
        "spark.standalone",
        "livy.batch",
        "databricks.run",
    ),
    *("databricks.sql", "snowflake.sql", "dbt.cloud", "emr.step", "emr.serverless", "glue.job", "batch.job"),
    *(
        "athena.query",
        "stepfunctions.execution",
        "dataproc.job",
        "adf.pipeline",
        "kubernetes.job",
        "github.run",
    ),
    *(
        "argo.workflow",
        "airflow.dag_run",
        "fivetran.sync",
        "hightouch.sync",
        "prefect.flow_run",
        "http.async202",
    ),
}
#: What is waited for is not a job but an object: it is there, or it is not yet.
OBJECTS = {"gcs_key", "azure_blob"}
KINDS = sorted(built_in_presets())


def test_every_promised_kind_is_there() -> None:
    assert set(KINDS) - FIRST_CLASS == {"azure.operation", *OBJECTS}
    assert set(KINDS) >= FIRST_CLASS
    assert {path.name.removesuffix(".toml") for path in BUILT_IN.glob("*.toml")} == set(KINDS)


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "session"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_golden_cases_hold(kind: str, pooled: bool) -> None:
    results = await cases.run_cases(built_in_presets()[kind], pooled=pooled)
    assert [f"{result.case.name}: {result.why}" for result in results if result.why] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_has_a_case_and_every_kind_the_cases_of_trouble(kind: str) -> None:
    preset = built_in_presets()[kind]
    assert cases.uncovered_states(preset) == []
    found = [*cases.build_cases(preset)]
    verdicts = {case.expected["verdict"] for case in found}
    assert {"success", "failure", "pending", "unreachable"} <= verdicts
    assert any(case.request for case in found)
    reasons = {case.expected.get("reason") for case in found}
    assert "not_found" in reasons or kind in {"emr.step", "athena.query", "snowflake.sql"}
    if kind not in {
        *("http.async202", "kubernetes.job"),
        *OBJECTS,
    }:  # whose states are the HTTP status, and a list of conditions
        assert "unknown_state" in reasons
    if kind != "http.async202":
        assert "malformed_answer" in reasons
    without = {"livy.batch", "airbyte.job", "http.async202", *OBJECTS}
    assert kind in without or preset.file.outcome.error


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wrong_with_the_file(kind: str) -> None:
    assert [*find_mistakes(built_in_presets()[kind].file)] == []


async def test_a_case_that_does_not_hold_is_told() -> None:
    preset = built_in_presets()["livy.batch"]
    wrong = preset.file.golden[0].model_copy(
        update={"verdict": "success", "request": "GET /batches/43/state"}
    )
    changed = type(preset)(preset.file.model_copy(update={"golden": [wrong]}), "here")
    [first, *_] = await cases.run_cases(changed)
    assert first.why == (
        "verdict is 'pending' instead of 'success'; requested 'GET /batches/42/state' instead of 'GET /batches/43/state'"
    )


def test_equal_rules_are_one_object_and_made_again_elsewhere() -> None:
    sources = JobSources("body.status", frozenset({"done"}), frozenset(), frozenset({"busy"}))
    rules = shared_job_conditions(sources)
    assert shared_job_conditions(sources._replace()) is rules
    assert pickle.loads(pickle.dumps(rules)) is rules
    assert rules.allowlist == frozenset()
    assert JobAnswerKind("not_now") is JobAnswerKind.NOT_NOW
