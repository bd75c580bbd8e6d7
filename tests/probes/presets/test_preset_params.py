"""What a wait of a preset's kind may ask for, and the request that comes of it."""

from typing import Any

import orjson
import pytest
from preset_probes import kinds
from raw_server import answer, raw_server

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
    ("airbyte.job", {"job_id": 1, "jobid": 1}, "/jobid", "unknown field; known are: airbyte_conn_id, job_id, request_timeout"),
    ("airbyte.job", {"job_id": 1, "airbyte_conn_id": "a b"}, "/airbyte_conn_id", "up to 250 letters"),
    ("airbyte.job", {"job_id": 1, "airbyte_conn_id": None}, "/airbyte_conn_id", "valid string"),
    ("spark.standalone", {"submission_id": "x"}, "/spark_conn_id", "Field required"),
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
async def test_bad_params_are_told_at_submit(
    kind: str, params: dict[str, Any], pointer: str, words: str
) -> None:
    async with kinds() as probes:
        with pytest.raises(InvalidInput) as caught:
            probes.probe(kind).parse(params, namespace="default")
    assert any(p.pointer == pointer and words in p.detail for p in caught.value.problems), (
        caught.value.problems
    )


async def test_egress_rules_hold_for_what_a_submitter_names() -> None:
    async with kinds() as probes:
        with pytest.raises(NotSupported, match="/endpoint"):
            probes.probe("http.async202").parse({"endpoint": "http://169.254.169.254/x"}, namespace="default")


async def test_segments_stay_segments_and_what_is_not_given_is_left_out() -> None:
    async with (
        raw_server([answer(200, b'{"state": "running", "status": {"state": "RUNNING"}}')]) as server,
        kinds(
            Connection(
                "airflow_default",
                "airflow",
                host=server.url + "/base",
                login="u",
                extra={"auth_type": "none"},
            ),
            Connection("google_cloud_default", host=server.url, extra={"auth_type": "none"}),
        ) as probes,
    ):
        dag_run = {"dag_id": "a/b?c", "dag_run_id": "manual__1+00:00#é"}
        await probes.poke("airflow.dag_run", dag_run)
        await probes.poke("bigquery.job", {"project_id": "example.org:p", "job_id": "j"})
    assert server.paths == [
        "/base/api/v2/dags/a%2Fb%3Fc/dagRuns/manual__1%2B00%3A00%23%C3%A9",
        "/bigquery/v2/projects/example.org%3Ap/jobs/j",
    ]


async def test_equal_looks_share_a_request_and_different_baselines_do_not_share_a_verdict() -> None:
    body = {
        "data": {
            "succeeded_at": "2026-11-21T12:00:00Z",
            "failed_at": None,
            "status": {"sync_state": "scheduled"},
        }
    }
    async with (
        raw_server([answer(200, orjson.dumps(body))]) as server,
        kinds(Connection("fivetran_default", host=server.url, login="k", password="s")) as probes,
    ):
        probe = probes.probe("fivetran.sync")
        waits = [{"connection_id": "c", "baseline": f"2026-11-21T{hour}:00:00Z"} for hour in (11, 13)]
        targets = [probe.parse(params, namespace="default") for params in waits]
        assert targets[0].key == targets[1].key != ""
        assert probe.parse(waits[0], namespace="other").key != targets[0].key
        from raw_server import Poked

        verdicts = await probe.poke([Poked(target) for target in targets])
    assert [type(verdict) for verdict in verdicts] == [Success, Pending]
    assert len(server.requests) == 1


async def test_a_look_by_post_is_shared_too() -> None:
    async with kinds() as probes:
        probe = probes.probe("athena.query")
        first, second = (probe.parse({"query_execution_id": q}, namespace="default") for q in "ab")
        assert first.key != second.key
        assert first.key == probe.parse({"query_execution_id": "a"}, namespace="default").key != ""


# ---------------------------------------------------------------- pace


async def test_each_kind_has_its_pace() -> None:
    async with kinds() as probes:
        for kind, preset in built_in_presets().items():
            probe = probes.probe(kind)
            assert probe.min_poke_interval is not None
            assert (
                probe.default_poke_interval == preset.file.pace.poke_interval >= probe.min_poke_interval >= 1
            )


# ---------------------------------------------------------------- not found


async def test_a_job_that_is_not_there_is_given_a_while() -> None:
    async with (
        raw_server([answer(404, b'{"detail": "Could not find a resource"}')]) as server,
        kinds(Connection("airbyte_default", host=server.url)) as probes,
    ):
        first = await probes.poke("airbyte.job", {"job_id": 42})
        assert first == Pending("not_found", "Not found: Could not find a resource")
        progress = record_verdict(EMPTY_PROGRESS, first, probes.now)
        probes.now += 59
        assert isinstance(await probes.poke("airbyte.job", {"job_id": 42}, progress), Pending)
        probes.now += 1
        last = await probes.poke("airbyte.job", {"job_id": 42}, progress)
        assert isinstance(last, Failure)
        assert (last.reason, last.silenceable) == ("not_found", True)
        # Seen meanwhile, the while begins anew.
        seen = record_verdict(progress, Pending("running", "The state is running."), probes.now)
        assert isinstance(await probes.poke("airbyte.job", {"job_id": 42}, seen), Pending)


async def test_where_there_is_no_while_it_fails_at_once() -> None:
    async with raw_server([answer(404)]) as server, kinds(Connection("api", host=server.url)) as probes:
        verdict = await probes.poke("http.async202", {"http_conn_id": "api", "endpoint": "/1"})
        assert isinstance(verdict, Failure)


# ---------------------------------------------------------------- unknown states


async def test_an_unknown_state_never_ends_a_wait_and_is_told_once_and_counted(
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


# ---------------------------------------------------------------- answers that are too much


async def test_a_body_over_the_limit_is_no_answer_and_a_large_one_is_judged_apart() -> None:
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


async def test_a_result_over_its_limit_is_left_out_of_a_success() -> None:
    body = orjson.dumps({"statementHandle": "h", "data": ["x" * 70_000]})
    async with (
        raw_server([answer(200, body, "Content-Type: application/json")]) as server,
        kinds(Connection("snowflake_default", host=server.url, extra={"auth_type": "none"})) as probes,
    ):
        verdict = await probes.poke("snowflake.sql", {"statement_handle": "h"})
        assert verdict == Success(None, "result_omitted", "The state is 200.")
