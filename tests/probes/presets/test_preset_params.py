"""The params of a preset's wait: mistakes, the request, and its verdicts."""

from typing import Any

import orjson
import pytest
from preset_probes import kinds
from raw_server import Poked, answer, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput, NotSupported
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.core.waits.wait import EMPTY_PROGRESS, record_verdict
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.presets.probe import MAX_LOGGED

pytestmark = pytest.mark.usefixtures("cold_and_warm")

BAD = [
    ("airbyte.job", {}, "/job_id", "Field required"),
    ("airbyte.job", {"job_id": "42"}, "/job_id", "valid integer"),
    ("airbyte.job", {"job_id": True}, "/job_id", "valid integer"),
    ("airbyte.job", {"job_id": -1}, "/job_id", "greater than or equal to 0"),
    ("airbyte.job", {"job_id": 2**63}, "/job_id", "less than"),
    ("airbyte.job", {"job_id": 1, "jobid": 1}, "/jobid", "unknown field; known are: airbyte_conn_id, job_id, not_found_grace, request_timeout; did you mean job_id?"),
    ("airbyte.job", {"job_id": 1, "airbyte_conn_id": "a b"}, "/airbyte_conn_id", "up to 250 letters"),
    ("airbyte.job", {"job_id": 1, "airbyte_conn_id": None}, "/airbyte_conn_id", "valid string"),
    ("spark.standalone", {"submission_id": "x"}, "/spark_conn_id", "Field required"),
    ("airbyte.job", {"job_id": 1, "not_found_grace": -1}, "/not_found_grace", "greater than or equal to 0"),
    ("airbyte.job", {"job_id": 1, "not_found_grace": 86_401}, "/not_found_grace", "less than or equal to 86400"),
    ("airbyte.job", {"job_id": 1, "request_timeout": 0}, "/request_timeout", "greater than 0"),
    ("bigquery.job", {"project_id": "p", "job_id": "a/b"}, "/job_id", "pattern"),
    ("bigquery.job", {"project_id": "", "job_id": "a"}, "/project_id", "at least 1 character"),
    ("bigquery.job", {"project_id": "..", "job_id": "a"}, "/project_id", "dot segment"),
    ("airflow.dag_run", {"dag_id": "a/../b", "dag_run_id": "r"}, "/dag_id", "no . or .. segments"),
    ("snowflake.sql", {"statement_handle": "h", "token_type": "BASIC"}, "/token_type", "'OAUTH'"),
    ("glue.job", {"job_name": "j", "run_id": "r", "region_name": "eu west"}, "/region_name", "pattern"),
    ("fivetran.sync", {"connection_id": "c", "baseline": "yesterday"}, "/baseline", "pattern"),
    ("http.async202", {"endpoint": "/operations/1"}, "/endpoint", "without http_conn_id"),
    ("http.async202", {"endpoint": "https://user:secret@h/1"}, "/endpoint", "credentials do not belong"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "params", "pointer", "words"), BAD, ids=[f"{b[0]} {b[3]}" for b in BAD])
async def test_a_mistake_is_reported_at_its_field(
    kind: str, params: dict[str, Any], pointer: str, words: str
) -> None:
    async with kinds() as probes:
        with pytest.raises(InvalidInput) as caught:
            probes.probe(kind).parse(params, namespace="default")
    problems = caught.value.problems
    assert any(problem.pointer == pointer and words in problem.detail for problem in problems), problems


async def test_egress_rules_apply_to_an_endpoint_that_a_submitter_names() -> None:
    async with kinds() as probes:
        with pytest.raises(NotSupported, match="/endpoint"):
            probes.probe("http.async202").parse({"endpoint": "http://169.254.169.254/x"}, namespace="default")


async def test_a_param_stays_one_path_segment_and_a_missing_one_is_left_out() -> None:
    extra = {"auth_type": "none"}
    async with (
        raw_server([answer(200, b'{"state": "running", "status": {"state": "RUNNING"}}')]) as server,
        kinds(
            Connection("airflow_default", "airflow", host=server.url + "/base", login="u", extra=extra),
            Connection("google_cloud_default", host=server.url, extra=extra),
        ) as probes,
    ):
        dag_run = {"dag_id": "a/b?c", "dag_run_id": "manual__1+00:00#é"}
        await probes.poke("airflow.dag_run", dag_run)
        await probes.poke("bigquery.job", {"project_id": "example.org:p", "job_id": "j"})
    assert server.paths == [
        "/base/api/v2/dags/a%2Fb%3Fc/dagRuns/manual__1%2B00%3A00%23%C3%A9",
        "/bigquery/v2/projects/example.org%3Ap/jobs/j",
    ]


async def test_waits_with_different_baselines_share_a_request_but_not_a_verdict() -> None:
    data = {
        "succeeded_at": "2026-11-21T12:00:00Z",
        "failed_at": None,
        "status": {"sync_state": "scheduled"},
    }
    async with (
        raw_server([answer(200, orjson.dumps({"data": data}))]) as server,
        kinds(Connection("fivetran_default", host=server.url, login="k", password="s")) as probes,
    ):
        probe = probes.probe("fivetran.sync")
        waits = [{"connection_id": "c", "baseline": f"2026-11-21T{hour}:00:00Z"} for hour in (11, 13)]
        targets = [probe.parse(params, namespace="default") for params in waits]
        assert targets[0].key == targets[1].key != ""
        assert probe.parse(waits[0], namespace="other").key != targets[0].key
        verdicts = await probe.poke([Poked(target) for target in targets])
    assert [type(verdict) for verdict in verdicts] == [Success, Pending]
    assert len(server.requests) == 1


async def test_polls_by_post_are_shared() -> None:
    async with kinds() as probes:
        probe = probes.probe("athena.query")
        first, second = (probe.parse({"query_execution_id": q}, namespace="default") for q in "ab")
        assert first.key != second.key
        assert first.key == probe.parse({"query_execution_id": "a"}, namespace="default").key != ""


# ---------------------------------------------------------------- pace


async def test_each_kind_has_its_pace() -> None:
    async with kinds() as probes:
        for kind, preset in built_in_presets().items():
            probe, pace = probes.probe(kind), preset.file.pace
            assert probe.default_poke_interval == pace.poke_interval
            assert probe.min_poke_interval == pace.min_poke_interval
            assert pace.poke_interval >= pace.min_poke_interval >= 1


# ---------------------------------------------------------------- not found


@pytest.mark.parametrize(("params", "grace"), [({}, 300), ({"not_found_grace": 20}, 20)])
async def test_a_missing_job_fails_its_wait_after_a_grace_period(params: dict[str, Any], grace: int) -> None:
    params = {"job_id": 42, **params}
    async with (
        raw_server([answer(404, b'{"detail": "Could not find a resource"}')]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        first = await probes.poke("airbyte.job", params)
        assert first == Pending("not_found", "Not found: Could not find a resource")
        progress = record_verdict(EMPTY_PROGRESS, first, probes.now)
        probes.now += grace - 1
        assert isinstance(await probes.poke("airbyte.job", params, progress), Pending)
        probes.now += 1
        last = await probes.poke("airbyte.job", params, progress)
        assert isinstance(last, Failure)
        assert (last.reason, last.silenceable) == ("not_found", True)
        # After another verdict the grace period begins again.
        running = record_verdict(progress, Pending("running", "The state is running."), probes.now)
        assert isinstance(await probes.poke("airbyte.job", params, running), Pending)


async def test_a_missing_job_without_a_grace_period_fails_at_once() -> None:
    async with raw_server([answer(404)]) as server, kinds(Connection("api", host=server.url)) as probes:
        params = {"http_conn_id": "api", "endpoint": "/1", "not_found_grace": 0}
        assert isinstance(await probes.poke("http.async202", params), Failure)


async def test_a_message_that_always_differs_does_not_prolong_the_grace_period() -> None:
    async with (
        raw_server(lambda _head, n: [answer(404, b'{"detail": "No job (request %d)"}' % n)]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        progress, verdicts = EMPTY_PROGRESS, []
        for _ in range(3):
            verdicts.append(await probes.poke("airbyte.job", {"job_id": 42}, progress))
            progress = record_verdict(progress, verdicts[-1], probes.now)
            probes.now += 150
    assert [type(verdict) for verdict in verdicts] == [Pending, Pending, Failure]
    assert [verdict.message[-2:] for verdict in verdicts] == ["1)", "1)", "3)"]


async def test_waits_with_other_grace_periods_share_a_request() -> None:
    async with (
        raw_server([answer(404)]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        probe = probes.probe("airbyte.job")
        params = [{"job_id": 42, "not_found_grace": grace} for grace in (0, 60)]
        targets = [probe.parse(each, namespace="default") for each in params]
        verdicts = await probe.poke([Poked(target) for target in targets])
    assert targets[0].key == targets[1].key
    assert [type(verdict) for verdict in verdicts] == [Failure, Pending]
    assert len(server.requests) == 1


# ---------------------------------------------------------------- unknown states


async def test_an_unknown_state_is_pending_counted_and_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = iter([*["resting"] * 3, *(f"state-{n}" for n in range(MAX_LOGGED + 20))])
    async with (
        raw_server(lambda _head, _n: [answer(200, orjson.dumps({"status": next(states)}))]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        for _ in range(3):
            verdict = await probes.poke("airbyte.job", {"job_id": 42})
            assert verdict == Pending("unknown_state", "The state 'resting' is unknown; the wait goes on.")
        assert probes.unknown_states.count == 3
        assert capsys.readouterr().out.count("resting") == 1
        for _ in range(MAX_LOGGED + 20):
            assert isinstance(await probes.poke("airbyte.job", {"job_id": 42}), Pending)
        assert capsys.readouterr().out.count("unknown_state") == MAX_LOGGED - 1
        assert probes.unknown_states.count == MAX_LOGGED + 23


# ---------------------------------------------------------------- large answers


async def test_a_body_over_the_limit_is_unreachable_and_a_large_one_is_evaluated() -> None:
    huge = orjson.dumps({"status": "succeeded", "x": "x" * (1 << 20)})
    large = orjson.dumps({"job": {"status": "succeeded"}, "x": "x" * 100_000})
    async with (
        raw_server(lambda _head, n: [answer(200, huge if n == 1 else large)]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        first = await probes.poke("airbyte.job", {"job_id": 42})
        assert isinstance(first, Unreachable)
        assert first.reason == "too_large"
        second = await probes.poke("airbyte.config_job", {"job_id": 42})
        assert second == Success({"status": "succeeded"}, "success", "The state is succeeded.")


async def test_a_result_over_its_limit_is_omitted() -> None:
    body = orjson.dumps({"statementHandle": "h", "data": ["x" * 70_000]})
    async with (
        raw_server([answer(200, body, "Content-Type: application/json")]) as server,
        kinds(Connection("snowflake_default", host=server.url, extra={"auth_type": "none"})) as probes,
    ):
        verdict = await probes.poke("snowflake.sql", {"statement_handle": "h"})
        assert verdict == Success(None, "result_omitted", "The state is 200.")
