"""`http.async202`: an operation's answers name the URL and the time of the next poke."""

import json
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from preset_probes import kinds
from raw_server import Script, answer, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.step import PokeAgain, step
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS

pytestmark = pytest.mark.usefixtures("cold_and_warm")


async def poke_each(
    *answers: bytes, base: str = "", kind: str = "http.async202"
) -> tuple[list[str], Sequence[Verdict]]:
    """Pokes once for each answer; returns the requested paths and the verdicts."""

    def script(_: str, n: int) -> Script:
        return [answers[n - 1].replace(b"PORT", str(server.port).encode())]

    param = "azure_conn_id" if kind == "azure.operation" else "http_conn_id"
    async with (
        raw_server(script) as server,
        kinds(Connection("api", host=server.url + base, extra={"auth_type": "none"})) as probes,
    ):
        verdicts = await probes.poke_repeatedly(
            kind, {param: "api", "endpoint": "/operations/1"}, len(answers)
        )
    return server.paths, verdicts


async def test_an_operation_is_followed_to_the_url_that_the_last_answer_named() -> None:
    paths, verdicts = await poke_each(
        answer(202, b"", "Location: /operations/1/status"),
        answer(202),
        answer(202, b"", "Location: ../../results/7?part=1#top"),
        answer(200, b'{"rows": 3}'),
    )
    assert paths == ["/operations/1", "/operations/1/status", "/operations/1/status", "/results/7?part=1"]
    assert [type(verdict) for verdict in verdicts[:-1]] == [Pending, Pending, Pending]
    assert isinstance(verdicts[-1], Success)
    assert verdicts[-1].payload == {"rows": 3}


async def test_operation_location_precedes_location() -> None:
    operation = "Operation-Location: http://127.0.0.1:PORT/op"
    paths, _ = await poke_each(
        answer(202, b"", "Location: /resource", operation, "Retry-After: 1"), answer(202)
    )
    assert paths == ["/operations/1", "/op"]


async def test_an_operation_may_leave_the_connections_path_but_not_its_origin() -> None:
    paths, verdicts = await poke_each(
        answer(202, b"", "Location: http://localhost:PORT/elsewhere"),
        answer(202, b"", "Location: //127.0.0.2:PORT/elsewhere"),
        answer(202, b"", "Location: http://user@127.0.0.1:PORT/userinfo"),
        answer(202, b"", "Location: /outside"),
        answer(200),
        base="/api",
    )
    assert paths == [*["/api/operations/1"] * 4, "/outside"]
    assert "another origin" in verdicts[0].message
    assert "another origin" not in verdicts[3].message


async def test_an_operation_without_a_connection_is_followed() -> None:
    async with (
        raw_server(lambda _h, n: [answer(202, b"", "Location: /2") if n == 1 else answer(204)]) as server,
        kinds() as probes,
    ):
        verdicts = await probes.poke_repeatedly("http.async202", {"endpoint": f"{server.url}/1"}, 2)
    assert server.paths == ["/1", "/2"]
    assert isinstance(verdicts[1], Success)


@pytest.mark.parametrize("status", [400, 403, 410, 422])
async def test_a_refusal_is_a_failure_with_its_message(status: int) -> None:
    _, [verdict] = await poke_each(answer(status, b'{"title": "No", "detail": "never"}'))
    assert verdict == Failure(f"http_{status}", "No: never", silenceable=True)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_retryable_status_is_unreachable(status: int) -> None:
    _, [verdict] = await poke_each(answer(status, b"", "Retry-After: 9"))
    assert isinstance(verdict, Unreachable)
    assert verdict.retry_after == 9


async def test_a_202_carries_its_retry_after() -> None:
    _, [verdict] = await poke_each(answer(202, b"", "Retry-After: 120"))
    assert verdict == Pending("running", "The state is running.", retry_after=120.0)


@pytest.mark.parametrize(("retry_after", "due"), [(120.0, 1_120.0), (0.0, 1_020.0), (1e9, 1_000.0 + 3600.0)])
def test_the_schedule_observes_the_retry_after_of_a_pending_verdict(retry_after: float, due: float) -> None:
    wait = SimpleNamespace(
        pacing=Pacing(30.0), phase=0.0, deadline=10_000.0, silent_fail=False, progress=EMPTY_PROGRESS
    )
    after = step(wait, Pending("running", "", retry_after=retry_after), 1_000.0, 1_000.0, 0.0)
    assert isinstance(after, PokeAgain)
    assert after.due == due


async def test_an_azure_operation_reports_its_state_in_the_body() -> None:
    body = {"status": "Failed", "error": {"code": "C", "message": "m"}}
    paths, verdicts = await poke_each(
        answer(202, b"", "Azure-AsyncOperation: /op/1?api-version=1", "Location: /result"),
        answer(200, b'{"status": "InProgress"}'),
        answer(200, json.dumps(body).encode()),
        kind="azure.operation",
    )
    assert paths == ["/operations/1", "/op/1?api-version=1", "/op/1?api-version=1"]
    assert verdicts[-1] == Failure("failure", "Failed: C: m", body)
