"""The test cases of every preset, over real sockets, through the pool and aiohttp's session."""

import pickle

import pytest

from waitd.core.http.job_answer import JobAnswerKind
from waitd.probes.presets import cases
from waitd.probes.presets.checks import find_mistakes
from waitd.probes.presets.evaluation import JobSources, shared_job_conditions
from waitd.probes.presets.loading import BUILT_IN, built_in_presets

#: Kinds that wait for an object, which exists or does not exist yet.
OBJECTS = {"gcs_key", "azure_blob"}
#: The kinds that waitd promises.
PROMISED = {
    *("airbyte.job", "airbyte.config_job", "bigquery.job", "spark.standalone", "livy.batch", "databricks.run"),
    *("databricks.sql", "snowflake.sql", "dbt.cloud", "emr.step", "emr.serverless", "glue.job", "batch.job"),
    *("athena.query", "stepfunctions.execution", "dataproc.job", "adf.pipeline", "kubernetes.job", "github.run"),
    *("argo.workflow", "airflow.dag_run", "fivetran.sync", "hightouch.sync", "prefect.flow_run", "http.async202"),
    *("azure.operation", *OBJECTS),
}  # fmt: skip
KINDS = sorted(built_in_presets())


def test_waitd_has_every_promised_preset() -> None:
    assert set(KINDS) == PROMISED
    assert {path.name.removesuffix(".toml") for path in BUILT_IN.glob("*.toml")} == set(KINDS)


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "session"])
@pytest.mark.parametrize("kind", KINDS)
async def test_all_cases_of_a_preset_pass(kind: str, pooled: bool) -> None:
    results = await cases.run_cases(built_in_presets()[kind], pooled=pooled)
    assert [f"{result.case.name}: {result.why}" for result in results if result.why] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_cases_cover_every_state_and_every_kind_of_verdict(kind: str) -> None:
    preset = built_in_presets()[kind]
    assert cases.uncovered_states(preset) == []
    preset_cases = [*cases.build_cases(preset)]
    verdicts = {case.expected["verdict"] for case in preset_cases}
    assert {"success", "failure", "pending", "unreachable"} <= verdicts
    assert any(case.request for case in preset_cases)
    reasons = {case.expected.get("reason") for case in preset_cases}
    assert "not_found" in reasons or kind in {"emr.step", "athena.query", "snowflake.sql"}
    # The states of these kinds are the HTTP status, or a list of conditions.
    assert "unknown_state" in reasons or kind in {"http.async202", "kubernetes.job", *OBJECTS}
    assert "malformed_answer" in reasons or kind == "http.async202"
    assert preset.file.outcome.error or kind in {"livy.batch", "airbyte.job", "http.async202", *OBJECTS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_no_mistakes(kind: str) -> None:
    assert [*find_mistakes(built_in_presets()[kind].file)] == []


async def test_a_failed_case_says_why() -> None:
    preset = built_in_presets()["livy.batch"]
    wrong = preset.file.golden[0].model_copy(
        update={"verdict": "success", "request": "GET /batches/43/state"}
    )
    changed = type(preset)(preset.file.model_copy(update={"golden": [wrong]}), "here")
    [first, *_] = await cases.run_cases(changed)
    assert first.why == (
        "verdict is 'pending' instead of 'success'; requested 'GET /batches/42/state' instead of 'GET /batches/43/state'"
    )


def test_equal_conditions_are_one_object_and_can_be_pickled() -> None:
    sources = JobSources("body.status", frozenset({"done"}), frozenset(), frozenset({"busy"}))
    conditions = shared_job_conditions(sources)
    assert shared_job_conditions(sources._replace()) is conditions
    assert pickle.loads(pickle.dumps(conditions)) is conditions


def test_an_answers_meaning_is_read_by_its_name() -> None:
    assert JobAnswerKind("not_now") is JobAnswerKind.NOT_NOW
