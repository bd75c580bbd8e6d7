"""How the provider's tasks are rendered, executed, resumed and ended, in Airflow's environment."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from airflow_inside import run_inside
from daemon import Daemon, daemon, serving
from stream_server import stream_server

from waitd.core.airflow.registration import parse_registration
from waitd.models import Registration, parse_model, parse_wait

pytestmark = pytest.mark.slow


def test_a_template_that_renders_to_no_mapping_is_named(facts: Any) -> None:
    for name in ("wait_params", "submit", "labels", "headers"):
        error = facts["templates"][f"text in {name}"]
        assert error == f"{name}: must be a mapping when it is rendered; received str"  # not what it is
    assert facts["templates"]["text in sinks"].startswith("sinks: must be a list of mappings")


def test_a_cleared_task_takes_no_outcome_of_another_airflow(facts: Any) -> None:
    results = facts["two_airflows"]
    assert results == {"staging": "staging", "production": "production", "third": "a new wait"}


def test_templates_outputs_and_none_become_what_the_kind_declares(facts: Any) -> None:
    task = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    results = {
        name: [result[0], {label: value for label, value in result[1].items() if label not in task}]
        if isinstance(result, list)
        else result
        for name, result in facts["templates"].items()
        if not name.startswith("text in")
    }
    http = {"http_conn_id": "http_default", "method": "GET"}
    s3 = {"aws_conn_id": None}
    assert results == {
        "integer": [{"job_id": 42, "request_timeout": 2.5}, {"n": "3", "flag": "true", "t": "42", "x": "7"}],
        "output": "wait_params['job_id']: must be of type integer; received 'run-1'",
        "number": [{"batch_id": 7}, {}],
        "texts": [{"application_id": "7", "job_run_id": "run-1"}, {}],
        "mappings": [
            http
            | {"endpoint": "run-1", "request_timeout": 3.0, "json": {"a": 1}, "headers": {"q": "1"}, "request_params": {"q": 1, "no": None}},
            {"q": "1"},
        ],
        "headers": [http | {"endpoint": "42", "headers": {"X-N": "3", "X-T": "42", "X-F": "false", "X-O": "7"}}, {}],
        "kind": "kind: 'airbyte.jobs' is unknown (did you mean 'airbyte.job'?). A kind of a preset of your own must be in "
        "Airflow's configuration: [waitd] own_kinds.",
        "missing": "wait_params['job_id']: is required",
        "WaitdOperator": [{}, {}],
        "WaitdHttpSensor": [{"endpoint": "/x", "method": "GET"}, {}],
        "WaitdS3KeySensor": [s3 | {"bucket_key": "s3://b/k", "wildcard_match": False, "use_regex": False}, {}],
        "WaitdS3KeysUnchangedSensor": [
            s3 | {"bucket_name": "b", "prefix": "p", "inactivity_period": 3600, "min_objects": 1, "allow_delete": True},
            {},
        ],
    }  # fmt: skip


def test_a_waitd_that_is_away_for_minutes_fails_no_task(facts: Any) -> None:
    away, gone, brief = (facts["patience"][name] for name in ("away", "gone", "brief"))
    assert away["raised"] is None
    assert 300 < away["seconds"] < 600
    assert away["waits"] == 1, "each try registers the same wait"
    assert len(away["log"]) == 12 + 3
    assert away["log"][0].startswith("waitd does not answer. Trying again in ")
    assert away["log"][0].endswith("(register_timeout: 600 s).")
    assert away["log"][12].startswith("waitd answers again, after ")
    assert gone["raised"] == brief["raised"] == "WaitdUnreachable"
    assert gone["seconds"] == pytest.approx(600)
    assert brief["seconds"] == pytest.approx(60)


def test_a_resumed_task_says_how_its_wait_ended(facts: Any) -> None:
    results = facts["ends"]["results"]
    wait = "Wait 01a1fee1-dcb8-71ab-adca-72e0e7a91a00"
    assert {name: log for name, (_, _, log) in results.items() if name in {"success", "failed", "older waitd", "timeout"}} == {
        "success": [f"{wait} succeeded after 7 pokes and 0:03:20 h: no rows"],
        "failed": [f"{wait} failed after 1 poke and 0:00:01 h: no rows"],
        "older waitd": [f"{wait} succeeded: no rows"],
        "timeout": [f"{wait} timed out after 7 pokes and 0:03:20 h: no rows"],
    }  # fmt: skip


def test_an_execution_timeout_limits_the_wait_and_lets_the_task_retry(facts: Any) -> None:
    results = facts["ends"]["results"]
    assert {name: raised for name, (raised, _, _) in results.items()} == {
        "success": None,
        "failed": "AirflowException",
        "older waitd": None,
        "timeout": "AirflowSensorTimeout",
        "execution_timeout": "AirflowTaskTimeout",
        "longer execution_timeout": "AirflowSensorTimeout",
        "skipped": "AirflowSkipException",
    }
    assert "The task's execution_timeout is 0:30:00." in results["execution_timeout"][1]
    assert facts["ends"]["timeout"] == 1800
    assert facts["ends"]["parked"] == 1800 + 86_400


def test_a_task_has_its_job_submitted(facts: Any) -> None:
    wait = {name: value for name, value in facts["ends"]["submitting"].items() if name != "idempotency_key"}
    assert parse_wait(wait).wake_on == "job 42"
    job = {"connection_id": "c1", "job_type": "sync"}
    assert wait["submit"] == job | {"on_conflict": "adopt", "cancel_job_on": ["cancelled", "timeout"]}


async def test_the_client_reads_answers_within_a_bound(environment: Path, tmp_path: Path) -> None:
    """Hostile answers take neither a worker's memory nor its slot."""
    deflate = zlib.compressobj()
    first, more = (deflate.compress(bytes(1 << 22)) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    piece = b"x" * 65_536
    #: By name: the status and headers, and the parts of the body, of which the last repeats.
    answers: dict[str, tuple[str, list[bytes]]] = {
        "endless": ("200 OK", [b'{"a":"', piece]),
        "announced": ("200 OK\r\nContent-Length: 99999999999", [b'{"a":"', piece]),
        "refused": ("404 Not Found", [piece]),
        "unavailable": ("503 Sorry", [piece]),
        "compressed": ("200 OK\r\nContent-Encoding: deflate", [first, more]),
        "slow": ("200 OK", [b"{"]),
        "deep": ("200 OK\r\nContent-Length: 1000000", [b"[" * 1_000_000]),
        "newer": ("200 OK\r\nWaitd-Api-Version: 2.0\r\nContent-Length: 2", [b"{}"]),
        "older": ("422 No\r\nWaitd-Api-Version: 0.9\r\nContent-Length: 2", [b"{}"]),
        "waitd": ("200 OK\r\nWaitd-Api-Version: 1.7\r\nContent-Length: 17", [b'{"state": "done"}']),
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readuntil(b"\r\n\r\n")).split(b"/")[1].decode()
        head, parts = answers[name]
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode())
        for part in parts:
            writer.write(part)
        for _ in range(5000):  # 320 MiB at most
            writer.write(parts[-1])
            await writer.drain()
            await asyncio.sleep(0.2 if name == "slow" else 0)

    async with stream_server(answer) as port:
        output = await asyncio.to_thread(
            run_inside,
            environment,
            tmp_path,
            "hostile_answers",
            HOSTILE_URL=f"http://127.0.0.1:{port}",
            HOSTILE_ANSWERS=" ".join(answers),
        )
    results = output["hostile_answers"]
    assert {name: result for name, result in results.items() if result["more"] > 32} == {}
    outcomes = {name: result["outcome"] for name, result in results.items()}
    for name in ("endless", "announced", "refused", "compressed", "deep"):
        assert "does not answer like waitd" in outcomes[name]
    assert outcomes["unavailable"].endswith("HTTP 503. Check that the daemon runs, and the connection to it.")
    assert "did not arrive in time" in outcomes["slow"]
    for name, version in (("newer", "2.0"), ("older", "0.9")):
        assert f"has version {version} of its API, and the provider waitd" in outcomes[name]
    assert outcomes["waitd"] == "{'state': 'done'}"


@pytest.fixture
async def waitd(tmp_path: Path) -> AsyncIterator[Daemon]:
    async def answer(request: web.Request) -> web.Response:
        done = request.match_info["name"] == "done"
        return web.json_response({"status": "SUCCEEDED" if done else "RUNNING"}, status=200 if done else 202)

    async with serving("GET", "/jobs/{name}", answer) as url:
        connections = {
            "AIRFLOW_CONN_JOBS": orjson.dumps({"conn_type": "http", "host": url}).decode(),
            "AIRFLOW_CONN_AIRFLOW_DEFAULT": '{"conn_type": "airflow", "host": "http://127.0.0.1:1"}',
        }
        async with daemon(tmp_path / "state", **connections) as running:
            yield running


async def test_every_way_to_execute_a_task(waitd: Daemon, environment: Path, tmp_path: Path) -> None:
    host, _, port = waitd.url.removeprefix("http://").partition(":")
    variables = {
        "AIRFLOW_CONN_WAITD_DEFAULT": f"waitd://{host}:{port}",
        "AIRFLOW_CONN_NOWHERE": "waitd://127.0.0.1:1",
    }
    output = await asyncio.to_thread(run_inside, environment, tmp_path, "executions", "notified", **variables)
    assert output["notified"] == {"raised": "TaskAwaitingInput", "stored": [0]}
    results, registered = output["executions"]["results"], output["executions"]["registered"]
    assert results["ends at once"]["returned"] == {"status": "SUCCEEDED"}
    assert "waitd_event_id" in results["ends at once"]["xcoms"]

    registration = parse_model(Registration, parse_registration(results["parks"]["text"]))
    again = parse_model(Registration, parse_registration(results["parks again"]["text"]))
    assert results["parks"]["raised"] == results["parks again"]["raised"] == "TaskAwaitingInput"
    assert registration.wait == again.wait
    assert registration.idempotency_key == again.idempotency_key
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{waitd.url}/v1/waits?label.task_id=wait") as response,
    ):
        [wait] = (await response.json())["waits"]  # both executions registered the same wait
    assert {name: wait[name] for name in ("kind", "params", "sinks", "supersede_key")} == {
        name: registration.wait[name] for name in ("kind", "params", "sinks", "supersede_key")
    }

    assert results["parks as deferred"]["raised"] == "TaskDeferred"
    assert parse_model(Registration, registered).wait["sinks"][0]["mode"] == "set_state"

    assert results["resumed"]["returned"] == {"rows": 3}
    ended = {name: result["raised"] for name, result in results.items() if "raised" in result}
    assert ended == {
        "parks": "TaskAwaitingInput",
        "parks again": "TaskAwaitingInput",
        "parks as deferred": "TaskDeferred",
        "failed": "AirflowException",
        "failed with soft_fail": "AirflowSkipException",
        "timed out": "AirflowSensorTimeout",
        "response of a person": "TaskAwaitingInput",
        "response for an older try": "TaskAwaitingInput",
        "never resumed": "AirflowSensorTimeout",
        "never resumed with never_fail": "AirflowSkipException",
        "outcome of an older try": "TaskDeferred",
        "invalid wait": "AirflowFailException",
        "waitd unreachable": "WaitdUnreachable",
    }
    assert "no rows" in results["failed"]["message"]
    assert "/params/success_when" in results["invalid wait"]["message"]
    assert "waitd at http://127.0.0.1:1 does not answer" in results["waitd unreachable"]["message"]

    assert results["cleared"]["returned"] == {"rows": 3}
    assert results["cleared"]["store"] == []  # consumed
    assert results["cleared"]["xcoms"] == {"waitd_event_id": "01a1fee1-dcb8-71ab-adca-72e0e7a91a00"}
    assert results["outcome of an older try"]["store"] == ["waitd_registration"]
