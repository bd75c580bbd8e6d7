"""Roles: what each may call."""

import re

import pytest
from api_answers import problem_of
from api_fakes import Api, bearer, wait
from structlog.testing import capture_logs

#: The least role that a call needs, and the status that it then gets.
CALLS = [
    ("viewer", "GET", "/v1/waits", 200),
    ("viewer", "GET", "/v1/waits/{id}", 200),
    ("viewer", "GET", "/v1/limits", 200),
    ("viewer", "GET", "/v1/waits/{id}/pokes", 200),
    ("admin", "GET", "/metrics", 200),
    ("submitter", "POST", "/v1/waits", 422),
    ("submitter", "POST", "/v1/waits:batch", 415),
    ("submitter", "POST", "/v1/waits/{id}:cancel", 200),
    ("operator", "POST", "/v1/waits/{id}:poke", 202),
    ("operator", "POST", "/v1/waits/{id}:redeliver", 409),
    ("operator", "GET", "/v1/deliveries", 200),
    ("operator", "POST", "/v1/deliveries:redeliver", 422),
    ("operator", "GET", "/v1/connections/unknown", 404),
    ("admin", "GET", "/v1/keys", 200),
    ("admin", "POST", "/v1/keys", 422),
    ("admin", "POST", "/v1/keys/unknown:revoke", 404),
    ("admin", "GET", "/v1/audit", 200),
]
RANKS = ["a_viewer", "a_submitter", "a_operator", "admin"]


@pytest.mark.parametrize(("least", "method", "path", "status"), CALLS)
async def test_each_call_requires_its_role(
    guarded: Api, least: str, method: str, path: str, status: int
) -> None:
    enough = [name.rpartition("_")[2] for name in RANKS].index(least)
    for rank, who in enumerate(RANKS):
        wait_id = await guarded.submit("a_submitter")
        response = await guarded.client.request(
            method,
            path.replace("{id}", wait_id),
            json=None if method == "GET" else {},
            headers=bearer(who),
        )
        assert response.status == (status if rank >= enough else 403), who


async def test_the_role_of_every_call_is_tested(guarded: Api) -> None:
    paths = (await guarded.get("/openapi.json"))["paths"]
    known = {(method, re.sub(r"/unknown:", "/{id}:", path)) for _, method, path, _ in CALLS}
    # Tested elsewhere: what streams, and what needs more dependencies.
    known |= {("GET", "/v1/events"), ("GET", "/v1/cost")}
    known |= {("GET", "/v1/connections/{conn_id}"), ("POST", "/v1/signals/{key}"), ("POST", "/v1/signals:s3")}
    public = {("GET", path) for path in ("/livez", "/readyz", "/openapi.json", "/docs")}
    assert {(method.upper(), path) for path in paths for method in paths[path]} <= known | public


async def test_a_refusal_says_which_role_is_needed(guarded: Api) -> None:
    with capture_logs() as logs:
        response = await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    problem = await problem_of(response, 403, "role-needed")
    assert "submitter" in problem["detail"]
    assert [line["principal"] for line in logs if line["event"] == "access_refused"] == ["key:aviewer"]
    assert guarded.store.commits == []


async def test_metrics_are_for_callers_that_see_all_namespaces(guarded: Api) -> None:
    for path in ("/metrics", "/v1/waits"):
        assert (await guarded.client.get(path, headers=bearer("viewer"))).status == 200
    refused = await guarded.client.get("/metrics", headers=bearer("a_operator"))
    problem = await problem_of(refused, 403, "role-needed")
    assert "--namespace '*'" in problem["detail"]
    await problem_of(await guarded.client.get("/metrics"), 401, "unauthenticated")


@pytest.mark.parametrize("more", [{"open_metrics": True}])
async def test_open_metrics_need_no_authentication(guarded: Api) -> None:
    assert (await guarded.client.get("/metrics")).status == 200
    assert (await guarded.client.get("/v1/waits")).status == 401
    document = await guarded.get("/openapi.json")
    assert "security" not in document["paths"]["/metrics"]["get"]
