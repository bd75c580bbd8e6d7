"""What is refused before a handler runs: hosts, origins, content types, paths and methods."""

import pytest
from api_answers import problem_of
from api_fakes import Api, raw, wait


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8795", "[::1]", "[::1]:1"]
)
async def test_the_host_may_be_a_loopback_name(api: Api, host: str) -> None:
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
async def test_any_other_host_is_refused(api: Api, host: str, path: str) -> None:
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
    wait_id = await api.submit()
    await problem_of(await api.post("/v1/waits", wait(), Origin=origin), 403, "forbidden-origin")
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel", Origin=origin), 403, "forbidden-origin")
    assert len(api.store.commits) == 1


async def test_a_page_of_the_api_itself_is_accepted(api: Api) -> None:
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
    wait_id = await api.submit()
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
