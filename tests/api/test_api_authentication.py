"""Who may call at all: tokens, and the paths that need none."""

import re

import pytest
from api_answers import problem_of
from api_fakes import TOKENS, Api, bearer, wait
from structlog.testing import capture_logs

from waitd.api.authentication import PRINCIPAL
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL

PUBLIC = ["/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js"]


@pytest.mark.parametrize("path", PUBLIC)
async def test_public_paths_need_no_authentication(guarded: Api, path: str) -> None:
    assert (await guarded.client.get(path)).status == 200
    document = await guarded.get("/openapi.json")
    for operation in document["paths"].get(path, {}).values():
        assert "security" not in operation


async def test_every_other_route_needs_authentication(guarded: Api) -> None:
    paths = (await guarded.get("/openapi.json"))["paths"]
    calls = [(path, method) for path in paths for method in paths[path] if path not in PUBLIC]
    assert len(calls) >= 15
    for path, method in calls:
        assert paths[path][method]["security"] == [{"bearer": []}]
        response = await guarded.client.request(
            method.upper(), path.replace("{id}", "x"), headers={"Content-Type": "application/json"}
        )
        problem = await problem_of(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="waitd"'
        assert "Bearer" in problem["detail"]


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer waitd_nobody_" + "s" * 40,
        TOKENS["admin"].replace("s", "t"),
        f"Bearer {TOKENS['admin'][:-1]}",
        f"Basic {TOKENS['admin']}",
        TOKENS["admin"],
        "Bearer",
        "Bearer ",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        f"Bearer {TOKENS['admin']} {TOKENS['admin']}",
    ],
)
async def test_invalid_credentials_are_refused_and_logged_nowhere(guarded: Api, authorization: str) -> None:
    with capture_logs() as logs:
        response = await guarded.client.get("/v1/waits", headers={"Authorization": authorization})
    await problem_of(response, 401, "unauthenticated")
    lines = [line for line in logs if line["event"] == "access_refused"]
    assert [(line["path"], line["remote"], line["principal"]) for line in lines] == [
        ("/v1/waits", "127.0.0.1", None)
    ]
    assert "ssss" not in str(logs) + await response.text()


async def test_two_credentials_are_refused(guarded: Api) -> None:
    headers = [*bearer("admin").items(), *bearer("a_viewer").items()]
    await problem_of(await guarded.client.get("/v1/waits", headers=headers), 401, "unauthenticated")


async def test_a_key_in_the_query_is_not_accepted(guarded: Api) -> None:
    response = await guarded.client.get("/v1/waits", params={"access_token": TOKENS["admin"]})
    await problem_of(response, 401, "unauthenticated")


async def test_refused_callers_are_counted(guarded: Api) -> None:
    await guarded.client.get("/v1/waits")
    await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    text = await (await guarded.client.get("/metrics", headers=bearer("viewer"))).text()
    counts = dict(re.findall(r'waitd_requests_refused_total\{problem="([a-z-]+)"\} (\S+)', text))
    assert (counts["unauthenticated"], counts["role-needed"]) == ("1.0", "1.0")


async def test_no_body_is_read_before_its_sender_is_authenticated(guarded: Api) -> None:
    response = await guarded.post("/v1/waits", b"{" + b" " * 100_000)
    await problem_of(response, 401, "unauthenticated")


@pytest.mark.parametrize("host", ["waitd.example.org", "evil.example", "10.0.0.1:8795"])
async def test_with_authentication_any_host_and_origin_is_accepted(guarded: Api, host: str) -> None:
    headers = {"Host": host, "Origin": "https://elsewhere.example", **bearer("a_viewer")}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200
    await problem_of(await guarded.client.get("/v1/waits", headers={"Host": host}), 401, "unauthenticated")


async def test_the_case_of_the_scheme_is_ignored(guarded: Api) -> None:
    headers = {"Authorization": f"bEARER   {TOKENS['a_viewer']}"}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200


async def test_without_authentication_every_caller_is_the_loopback_admin(api: Api) -> None:
    wait_id = await api.submit("nonsense")
    assert (await api.store.get(wait_id)).namespace == "default"
    document = await api.get("/openapi.json")
    assert "securitySchemes" not in document["components"]
    assert "'security'" not in str(document["paths"])
    assert LOOPBACK_PRINCIPAL.name == "loopback"
    assert str(PRINCIPAL)
