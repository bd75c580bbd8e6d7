"""`http.async202`: where an operation says that it is asked about next, there, and when it says, then."""

from collections.abc import Sequence

import pytest
from preset_probes import kinds
from raw_server import Script, answer, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.step import PokeAgain, step
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS

pytestmark = pytest.mark.usefixtures("cold_and_warm")


async def looks(
    answers: Sequence[bytes], *, base: str = "", kind: str = "http.async202"
) -> tuple[list[str], Sequence[Verdict]]:
    """The paths that a wait asked for, and the verdicts, one for each answer."""

    def script(_: str, n: int) -> Script:
        return [answers[n - 1].replace(b"PORT", str(server.port).encode())]

    param = "azure_conn_id" if kind == "azure.operation" else "http_conn_id"
    async with (
        raw_server(script) as server,
        kinds(Connection("api", host=server.url + base, extra={"auth_type": "none"})) as probes,
    ):
        seen = await probes.poke_repeatedly(kind, {param: "api", "endpoint": "/operations/1"}, len(answers))
    return server.paths, seen


async def test_it_moves_on_to_where_the_answer_says_and_stays_there() -> None:
    paths, seen = await looks(
        [
            answer(202, b"", "Location: /operations/1/status"),
            answer(202),
            answer(202, b"", "Location: ../../results/7?part=1#top"),
            answer(200, b'{"rows": 3}'),
        ]
    )
    assert paths == ["/operations/1", "/operations/1/status", "/operations/1/status", "/results/7?part=1"]
    assert [type(verdict) for verdict in seen] == [Pending, Pending, Pending, Success]
    assert isinstance(seen[-1], Success)
    assert seen[-1].payload == {"rows": 3}


async def test_of_several_headers_the_operations_own_wins() -> None:
    paths, _ = await looks(
        [
            answer(
                202,
                b"",
                "Location: /resource",
                "Operation-Location: http://127.0.0.1:PORT/op",
                "Retry-After: 1",
            ),
            answer(202),
        ]
    )
    assert paths == ["/operations/1", "/op"]


async def test_it_may_leave_the_connections_path_but_never_its_origin() -> None:
    paths, seen = await looks(
        [
            answer(202, b"", "Location: http://localhost:PORT/elsewhere"),
            answer(202, b"", "Location: //127.0.0.2:PORT/elsewhere"),
            answer(202, b"", "Location: http://user@127.0.0.1:PORT/userinfo"),
            answer(202, b"", "Location: /outside"),
            answer(200),
        ],
        base="/api",
    )
    assert paths == [*["/api/operations/1"] * 4, "/outside"]
    assert "another origin" in seen[0].message
    assert "another origin" not in seen[3].message


async def test_without_a_connection_it_is_asked_where_the_wait_says() -> None:
    async with (
        raw_server(lambda _h, n: [answer(202, b"", "Location: /2") if n == 1 else answer(204)]) as server,
        kinds() as probes,
    ):
        seen = await probes.poke_repeatedly("http.async202", {"endpoint": f"{server.url}/1"}, 2)
    assert server.paths == ["/1", "/2"]
    assert isinstance(seen[1], Success)


@pytest.mark.parametrize("status", [400, 403, 410, 422])
async def test_a_refusal_is_its_failure(status: int) -> None:
    _, [verdict] = await looks([answer(status, b'{"title": "No", "detail": "never"}')])
    assert verdict == Failure(f"http_{status}", "No: never", silenceable=True)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_is_no_answer_is_asked_again(status: int) -> None:
    _, [verdict] = await looks([answer(status, b"", "Retry-After: 9")])
    assert isinstance(verdict, Unreachable)
    assert verdict.retry_after == 9


async def test_retry_after_of_a_202_is_honoured_by_the_schedule() -> None:
    _, [verdict] = await looks([answer(202, b"", "Retry-After: 120")])
    assert verdict == Pending("running", "The state is running.", retry_after=120.0)

    class Wait:
        pacing = Pacing(30.0)
        phase = 0.0
        deadline = 10_000.0
        silent_fail = False
        progress = EMPTY_PROGRESS

    for asked, due in ((120.0, 1_120.0), (0.0, 1_020.0), (1e9, 1_000.0 + 3600.0)):
        after = step(Wait(), Pending("running", "", retry_after=asked), 1_000.0, 1_000.0, 0.0)
        assert isinstance(after, PokeAgain)
        assert after.due == due


async def test_azures_operations_say_in_their_body_how_they_stand() -> None:
    paths, seen = await looks(
        [
            answer(202, b"", "Azure-AsyncOperation: /op/1?api-version=1", "Location: /result"),
            answer(200, b'{"status": "InProgress"}'),
            answer(200, b'{"status": "Failed", "error": {"code": "C", "message": "m"}}'),
        ],
        kind="azure.operation",
    )
    assert paths == ["/operations/1", "/op/1?api-version=1", "/op/1?api-version=1"]
    assert seen[-1] == Failure(
        "failure", "Failed: C: m", {"status": "Failed", "error": {"code": "C", "message": "m"}}
    )
