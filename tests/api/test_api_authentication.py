"""The loopback guard, content types, errors, health and metrics."""

import re

import pytest
from api_fakes import Api, problem_of, raw, wait
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from structlog.testing import capture_logs


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8795", "[::1]", "[::1]:1"]
)
async def test_loopback_names_are_accepted(api: Api, host: str) -> None:
    assert (await api.client.get("/livez", headers={"Host": host})).status == 200


HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.1@evil",
    "0.0.0.0",
    "",
    "[::1",
    "::1",
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/livez", "/v1/waits", "/nowhere"])
async def test_other_hosts_are_refused(api: Api, host: str, path: str) -> None:
    await problem_of(await api.client.get(path, headers={"Host": host}), 421, "misdirected")


async def test_a_request_without_host_is_refused(api: Api) -> None:
    answer = await raw(api, b"GET /livez HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 421 ")
    assert b"application/problem+json" in answer


ORIGINS = [
    "https://evil.example",
    "null",
    "http://localhost:1",
    "http://127.0.0.1.evil.example",
    "file://",
    "",
]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_pages_of_other_sites_are_refused(api: Api, origin: str) -> None:
    wait_id = await api.submitted()
    await problem_of(await api.post("/v1/waits", wait(), Origin=origin), 403, "forbidden-origin")
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel", Origin=origin), 403, "forbidden-origin")
    assert len(api.store.commits) == 1


async def test_our_own_page_is_accepted(api: Api) -> None:
    origin = str(api.client.make_url("/")).rstrip("/")
    assert (await api.post("/v1/waits", wait(), Origin=origin)).status == 201


FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain; application/json",
]


@pytest.mark.parametrize("content_type", [*FORMS, "application/x-ndjson", "application/jsonp", ""])
async def test_a_body_of_another_type_is_a_415(api: Api, content_type: str) -> None:
    wait_id = await api.submitted()
    for path in ("/v1/waits", f"/v1/waits/{wait_id}:cancel"):
        response = await api.post(path, wait(), Content_Type=content_type)
        await problem_of(response, 415, "unsupported-media-type")
    assert len(api.store.commits) == 1


async def test_a_body_without_a_type_is_a_415(api: Api) -> None:
    for path in (b"/v1/waits", b"/v1/waits:batch"):
        answer = await raw(
            api,
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}" % path,
        )
        assert answer.startswith(b"HTTP/1.1 415 ")
    await problem_of(await api.post("/v1/waits:batch", wait()), 415, "unsupported-media-type")


async def test_a_json_type_may_have_parameters(api: Api) -> None:
    assert (await api.post("/v1/waits", wait(), Content_Type="Application/JSON; charset=utf-8")).status == 201


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/wait", "/v1/waits/", "/v1/waits/a/b", "/v1/waits/a/pokes/"]
)
async def test_an_unknown_route_is_a_404_problem(api: Api, path: str) -> None:
    await problem_of(await api.client.get(path), 404, "no-such-route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/waits", "GET, HEAD, POST"),
        ("DELETE", "/v1/waits/x", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("GET", "/v1/waits/x:cancel", "POST"),
        ("GET", "/v1/waits:batch", "POST"),
        ("OPTIONS", "/nowhere", "GET, HEAD, POST"),
    ],
)
async def test_another_method_is_a_405_that_names_the_allowed_ones(
    api: Api, method: str, path: str, allowed: str
) -> None:
    response = await api.client.request(method, path)
    await problem_of(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == allowed


async def test_an_unexpected_error_is_a_500_without_its_text_and_is_logged_with_it(api: Api) -> None:
    api.store.broken = True
    with capture_logs() as logs:
        response = await api.post("/v1/waits", wait())
        await problem_of(response, 500, "internal-error")
    assert "secret internals" not in await response.text()
    assert [str(line["exc_info"]) for line in logs if line["log_level"] == "error"] == ["secret internals"]


async def test_each_request_is_one_line_in_the_log(api: Api) -> None:
    with capture_logs() as logs:
        await api.client.get("/v1/waits?label.secret=x")
    [line] = logs
    assert (line["log_level"], line["path"], line["status"]) == ("debug", "/v1/waits", 200)


async def test_livez_answers_even_when_nothing_else_works(api: Api) -> None:
    api.health.draining, api.health.store_error, api.store.refusing = True, "the disk is full", True
    response = await api.client.get("/livez")
    assert (response.status, await response.json()) == (200, {"status": "alive", "loop_lag_seconds": 0.001})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("draining", True, "stopping"),
        ("store_error", "the disk is full", "cannot be written: the disk is full"),
        ("refused_outcomes", 3, "waits that have ended"),
    ],
)
async def test_readyz_says_why_the_daemon_is_not_ready(
    api: Api, name: str, value: object, reason: str
) -> None:
    assert await (await api.client.get("/readyz")).json() == {"status": "ready"}
    setattr(api.health, name, value)
    problem = await problem_of(await api.client.get("/readyz"), 503, "not-ready")
    assert reason in problem["detail"]


async def test_metrics_are_fresh_and_in_the_format_that_was_asked_for(api: Api) -> None:
    plain = await api.client.get("/metrics")
    assert plain.content_type == "text/plain"
    assert re.search(r"^waitd_build_info\{build=\"\",version=\"test\"\} 1", await plain.text(), re.MULTILINE)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
    modern = await api.client.get("/metrics", headers=accept)
    assert modern.content_type == "application/openmetrics-text"
    text = await modern.text()
    assert "waitd_waits" in {family.name for family in openmetrics(text)}  # type: ignore[no-untyped-call]  # theirs
    assert api.scrapes == [1, 1]
