"""`GET /v1/connections/{conn_id}`: for operators, within the rules of their namespace."""

from typing import Any

import pytest
from api_answers import problem_of
from api_fakes import Api, FakeInspector, bearer


@pytest.fixture
def inspector() -> FakeInspector:
    return FakeInspector("team_a_jobs", "team_b_jobs", "a/b:c")


@pytest.fixture
def more(inspector: FakeInspector) -> dict[str, Any]:
    return {"inspector": inspector}


async def test_an_operator_sees_what_is_made_of_a_connection(guarded: Api, inspector: FakeInspector) -> None:
    view = await guarded.get("/v1/connections/team_a_jobs", "a_operator", **{"try": "/health"})
    assert (view["conn_id"], view["resolver"]) == ("team_a_jobs", "environment")
    assert inspector.asked == [("team_a_jobs", "/health")]


async def test_a_connection_of_another_namespace_does_not_exist(
    guarded: Api, inspector: FakeInspector
) -> None:
    refused = await guarded.client.get("/v1/connections/team_b_jobs", headers=bearer("a_operator"))
    await problem_of(refused, 404, "not-found")
    assert inspector.asked == []


@pytest.mark.parametrize("path", ["a%2Fb%3Ac", "a/b:c"])
async def test_a_conn_id_may_have_slashes(api: Api, inspector: FakeInspector, path: str) -> None:
    assert (await api.get(f"/v1/connections/{path}"))["conn_id"] == "a/b:c"


async def test_what_is_tried_must_stay_at_the_target(api: Api, inspector: FakeInspector) -> None:
    for path in ("//evil.example", "/../x", "/a#b"):
        refused = await api.client.get("/v1/connections/team_a_jobs", params={"try": path})
        await problem_of(refused, 422, "invalid-input")
    assert inspector.asked == []


@pytest.mark.parametrize("conn_id", ["unknown", "%00", "a b", "%ff"])
async def test_an_unknown_connection_is_not_found(api: Api, conn_id: str) -> None:
    await problem_of(await api.client.get(f"/v1/connections/{conn_id}"), 404, "not-found")
